"""The files of `invoke cloud` and `invoke ci`, judged by the engines' own code."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from test_cloud import asked, rendered

from samerun.errors import OutputError, UsageError
from samerun.host.cloud import k8s, workflow
from samerun.host.cloud.request import Gpus, Place

PLAN = Path(__file__).parent / "sky" / "plan.py"
A100 = Gpus(name="A100", number=8)
S3, GS = Place(kind="s3", name="photos", path="train"), Place(kind="gs", name="photos")
PVC, PATH = Place(kind="pvc", name="photos"), Place(kind="path", name="/srv/photos")
VARIANTS = [
    {},
    {"gpus": A100, "procs": 8, "spot": True, "data": S3},
    {"gpus": A100, "procs": 8, "nodes": 2, "data": PVC, "output": PVC},
    {"data": GS, "output": GS, "offline": True},
    {"data": PATH, "gpus": Gpus(number=1)},
]


@pytest.fixture(scope="module")
def sky_python():
    """Return what runs Python with SkyPilot: an environment that uv makes and keeps."""
    command = ["uv", "run", "--no-project", "--isolated", "--with", "skypilot", "python"]
    if shutil.which("uv") is None:
        pytest.skip("an environment with SkyPilot is made by uv")
    done = subprocess.run(
        [*command, "-c", ""], capture_output=True, text=True, check=False, timeout=600
    )
    if done.returncode:
        pytest.skip(f"SkyPilot could not be installed: {done.stderr.strip()[-200:]}")
    return command


@pytest.mark.parametrize(
    ("changes", "instance"),
    [
        ({}, "m6i.xlarge"),
        ({"gpus": A100, "procs": 8, "nodes": 2, "spot": True, "data": S3}, "p4d.24xlarge"),
    ],
)
def test_skypilot_loads_and_plans_the_task(sky_python, tmp_path, changes, instance):
    """Its own reader, its own schema, its own optimiser; a catalogue of two machines."""
    file = tmp_path / "task.yaml"
    file.write_text(rendered("sky", **changes))
    uv_cache = subprocess.run(["uv", "cache", "dir"], capture_output=True, text=True, check=True)
    home = {"HOME": str(tmp_path), "UV_CACHE_DIR": uv_cache.stdout.strip()}

    done = subprocess.run(
        [*sky_python, str(PLAN), str(file)],
        env=os.environ | home,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    planned = json.loads(done.stdout.strip().splitlines()[-1])
    assert planned["instance"] == instance
    assert planned["nodes"] == changes.get("nodes", 1)
    assert planned["spot"] is changes.get("spot", False)
    assert planned["recovery"]["recover_on_exit_codes"] == [75]
    assert planned["mounts"]["/samerun/output"] == "MOUNT_CACHED"
    assert planned["secrets"] == ["WANDB_API_KEY"]


def standard(documents):
    return [d for d in documents if "kubeflow" not in d["apiVersion"]]


@pytest.mark.parametrize("changes", VARIANTS)
def test_kubernetes_own_schema_takes_the_objects(changes):
    """Strictly, so that a field of no such name is an error; the newest version there is."""
    validate = pytest.importorskip("kubernetes_validate")
    documents = list(yaml.safe_load_all(rendered("k8s", **changes)))

    for document in standard(documents):
        validate.validate(document, validate.latest_version(), strict=True)

    assert len(standard(documents)) >= 3


def test_the_schema_would_see_a_wrong_field():
    """Else the test above would prove nothing."""
    validate = pytest.importorskip("kubernetes_validate")
    job = standard(k8s.objects(asked("k8s")))[-1]
    job["spec"]["podFailurePolicies"] = job["spec"].pop("podFailurePolicy")

    with pytest.raises(validate.ValidationError):
        validate.validate(job, validate.latest_version(), strict=True)


@pytest.mark.parametrize("changes", [v for v in VARIANTS if v.get("nodes") == 2])
def test_the_trainers_own_models_take_its_resources(changes):
    """Read and written again by Kubeflow's models, nothing is lost on the way."""
    models = pytest.importorskip("kubeflow_trainer_api.models")
    runtime, job = k8s.objects(asked("k8s", **changes))[-2:]

    for model, document in (
        (models.TrainerV1alpha1TrainingRuntime, runtime),
        (models.TrainerV1alpha1TrainJob, job),
    ):
        assert model.from_dict(document).to_dict() == document


def files_of_a_vm():
    """Return what cloud-init writes for a run with buckets, by the files' names."""
    written = yaml.safe_load(rendered("vm", data=S3, output=S3))["write_files"]
    return {Path(file["path"]): file for file in written}


def test_the_scripts_of_a_vm_are_shell():
    """As the machine's own shell reads them."""
    scripts = [f["content"] for p, f in files_of_a_vm().items() if p.suffix == ""]

    for script in scripts:
        subprocess.run(["sh", "-n"], input=script, text=True, check=True)

    assert len(scripts) == 3


def test_systemd_takes_the_units(tmp_path):
    """`systemd-analyze verify` for the training, the upload and its timer, together."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd is not installed")
    units = {p.name: f["content"] for p, f in files_of_a_vm().items() if p.suffix}
    for name, content in units.items():
        # Their programs come with the machine.
        (tmp_path / name).write_text(re.sub(r"/usr/local/sbin/samerun-\w+", "/bin/true", content))

    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *(tmp_path / name for name in units)],
        capture_output=True,
        text=True,
        check=False,
    )
    said = [line for line in done.stderr.splitlines() if any(name in line for name in units)]

    assert len(units) == 3
    assert said == []


@pytest.mark.parametrize("service", workflow.SERVICES)
def test_the_services_own_schema_takes_the_workflow(project, tmp_path, service):
    """GitHub's and GitLab's, as check-jsonschema brings them along."""
    pytest.importorskip("check_jsonschema")
    schema = {"github": "vendor.github-workflows", "gitlab": "vendor.gitlab-ci"}[service]
    path = workflow.write(service, None, tmp_path / "ci.yml", project)

    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, path],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "REGISTRY\n" not in path.read_text().replace("SAMERUN_REGISTRY", "")


def test_a_workflow_names_the_registry_that_was_given(project, tmp_path):
    """Wherever it stands in the template."""
    for service in workflow.SERVICES:
        text = workflow.render(project, service, "quay.io/team/x")
        assert "SAMERUN_REGISTRY: quay.io/team/x" in text
        assert "ghcr.io" not in text


def test_a_workflow_of_the_users_own_is_kept(project, tmp_path):
    """Nothing is written over; what says the same already is no hindrance."""
    path = tmp_path / "ci.yml"
    workflow.write("github", None, path, project)
    workflow.write("github", None, path, project)
    path.write_text("mine")

    with pytest.raises(OutputError, match="there already"):
        workflow.write("github", None, path, project)


def test_an_unknown_service_is_told_the_known(project):
    """Two there are."""
    with pytest.raises(UsageError, match="github, gitlab"):
        workflow.render(project, "jenkins", None)
