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
from asking import asked, rendered

from samerun.core.errors import OutputError, UsageError
from samerun.host.cloud import k8s, labels, sky
from samerun.host.cloud.request import Gpus, Location
from samerun.host.develop import workflow

PLAN = Path(__file__).parent / "sky" / "plan.py"
WRAP = Path(__file__).parent / "sky" / "wrap.py"
NAMES = Path(__file__).parent / "sky" / "names.py"
A100 = Gpus(name="A100", number=8)
S3, GS = Location(kind="s3", name="photos", path="train"), Location(kind="gs", name="photos")
PVC, PATH = Location(kind="pvc", name="photos"), Location(kind="path", name="/srv/photos")
VARIANTS = [
    {},
    {"gpus": A100, "procs": 8, "spot": True, "data": (S3,)},
    {"gpus": A100, "procs": 8, "nodes": 2, "data": (PVC,), "output": PVC},
    {"data": (GS,), "output": GS, "offline": True},
    {"data": (PATH,), "gpus": Gpus(number=1)},
    {"nodes": 2, "account": "team", "pull_secret": "registry", "output": PVC},
    {"data": (S3,), "cpus": 8, "memory": "32g", "shm_size": "512m"},
    {"gpus": Gpus(name="A100-MIG-1g.5gb", number=1), "runtime_class": "nvidia"},
    {"variables": {"STYLE": 'it\'s $(HOME): "a b"', "EMPTY": ""}},
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


def asks_sky(sky_python, home, *command):
    """Run Python with SkyPilot, in its own home folder."""
    uv_cache = subprocess.run(["uv", "cache", "dir"], capture_output=True, text=True, check=True)
    own = {"HOME": str(home), "UV_CACHE_DIR": uv_cache.stdout.strip()}
    done = subprocess.run(
        [*sky_python, *map(str, command)],
        env=os.environ | own,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.parametrize(
    ("changes", "instance"),
    [
        ({"cpus": 4, "memory": "16g"}, "m6i.xlarge"),
        ({"gpus": A100, "procs": 8, "nodes": 2, "spot": True, "data": (S3,)}, "p4d.24xlarge"),
    ],
)
def test_skypilot_loads_and_plans_the_task(sky_python, tmp_path, changes, instance):
    """Its own reader, its own schema, its own optimizer; a catalog of two machines."""
    file = tmp_path / "task.yaml"
    file.write_text(rendered("sky", **changes))

    done = asks_sky(sky_python, tmp_path, PLAN, file)

    planned = json.loads(done.stdout.strip().splitlines()[-1])
    assert planned["instance"] == instance
    assert planned["nodes"] == changes.get("nodes", 1)
    assert planned["spot"] is changes.get("spot", False)
    codes = [75, 105] if "nodes" in changes else [75]
    assert planned["recovery"]["recover_on_exit_codes"] == codes
    assert planned["mounts"]["/samerun/output"] == "MOUNT_CACHED"
    assert planned["secrets"] == sorted(["WANDB_API_KEY", *sky.REGISTRY_LOGIN])
    # The engine runs as root and looks into it; files are renamed; uploads begin at once.
    for flag in ("--allow-other", "--vfs-cache-mode full", "--vfs-write-back 1s"):
        assert flag in planned["cached"]


def on_a_machine(folder, exit_code):
    """Put programs into *folder* as they are on a machine with a cached mount; say its PATH."""
    programs = {
        "docker": f'[ "$1" = run ] && exit {exit_code}; exit 0',
        "findmnt": "echo mounted",
        "sleep": f'echo "$1" >>{folder}/slept',
    }
    for name, script in programs.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    log = folder / ".sky" / "rclone_log" / "mount.log"
    log.parent.mkdir(parents=True)
    log.write_text("INFO  : vfs cache: cleaned: objects 1, in use 0, to upload 0, uploading 0\n")
    return f"{folder}:/usr/bin:/bin"


@pytest.mark.parametrize(
    ("nodes", "rank", "code", "waits"),
    [(1, "0", 0, False), (1, "0", 75, False), (2, "0", 75, False), (2, "1", 75, True)],
)
def test_skypilot_waits_for_the_upload_whatever_the_exit_code(
    sky_python, tmp_path, nodes, rank, code, waits
):
    """Its lines behind ours are reached, and its job ends as the training did."""
    path = on_a_machine(tmp_path, code)
    file, wrapped = tmp_path / "task.yaml", tmp_path / "wrapped.sh"
    file.write_text(rendered("sky", nodes=nodes).replace(sky.OUTPUT, f"{tmp_path}/output"))
    asks_sky(sky_python, tmp_path, WRAP, file, wrapped)
    told = {"SKYPILOT_NODE_RANK": rank, "SKYPILOT_NODE_IPS": "10.0.0.4\n10.0.0.5"}

    done = subprocess.run(
        ["bash", wrapped],
        env={"HOME": str(tmp_path), "PATH": path, "WANDB_API_KEY": "not-a-key", **told},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == code, done.stderr
    assert "cached mount upload complete" in done.stdout
    assert (str(sky.UPLOAD_S) in (tmp_path / "slept").read_text().split()) is waits


def standard(documents):
    return [d for d in documents if "kubeflow" not in d["apiVersion"]]


@pytest.mark.parametrize("changes", VARIANTS)
def test_kubernetes_own_schema_takes_the_objects(changes):
    """Strictly, so that a field of no such name is an error; the newest version there is."""
    validate = pytest.importorskip("kubernetes_validate")
    documents = list(yaml.safe_load_all(rendered("k8s", **changes)))

    for document in standard(documents):
        validate.validate(document, validate.latest_version(), strict=True)

    assert len(standard(documents)) >= 2


def test_the_schema_would_see_a_wrong_field():
    """Else the test above would prove nothing."""
    validate = pytest.importorskip("kubernetes_validate")
    job = standard(k8s.objects(asked("k8s")))[-1]
    job["spec"]["podFailurePolicies"] = job["spec"].pop("podFailurePolicy")

    with pytest.raises(validate.ValidationError):
        validate.validate(job, validate.latest_version(), strict=True)


def pod_specs(documents):
    """Every pod's specification, of a Job or of the trainer's runtime."""
    for document in documents:
        if document["kind"] == "Job":
            yield document["spec"]["template"]["spec"]
        if document["kind"] == "TrainingRuntime":
            for job in document["spec"]["template"]["spec"]["replicatedJobs"]:
                yield job["template"]["spec"]["template"]["spec"]


RESTRICTED_VOLUMES = {
    *("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral"),
    *("persistentVolumeClaim", "projected", "secret"),
}


def violations(pod):
    """
    Return what the restricted Pod Security Standard has against *pod*.

    https://kubernetes.io/docs/concepts/security/pod-security-standards/, all of its controls
    on fields that a pod of ours may have.
    """
    found = [f"host{name}" for name in ("Network", "PID", "IPC") if pod.get(f"host{name}")]
    kinds = {kind for volume in pod["volumes"] for kind in volume if kind != "name"}
    found += sorted(kinds - RESTRICTED_VOLUMES)
    for container in [*pod["containers"], *pod.get("initContainers", [])]:
        own, whole = container.get("securityContext", {}), pod.get("securityContext", {})
        context = whole | own
        capabilities = own.get("capabilities", {})
        rules = {
            "privileged": not own.get("privileged"),
            "allowPrivilegeEscalation": own.get("allowPrivilegeEscalation") is False,
            "runAsNonRoot": context.get("runAsNonRoot") is True,
            "runAsUser": context.get("runAsUser") != 0,
            "seccompProfile": context.get("seccompProfile", {}).get("type")
            in ("RuntimeDefault", "Localhost"),
            "drop": "ALL" in capabilities.get("drop", []),
            "add": set(capabilities.get("add", [])) <= {"NET_BIND_SERVICE"},
            "procMount": own.get("procMount", "Default") == "Default",
            "hostPort": not any(port.get("hostPort") for port in container.get("ports", [])),
            "sysctls": not whole.get("sysctls"),
        }
        found += [name for name, kept in rules.items() if not kept]
    return found


@pytest.mark.parametrize("changes", VARIANTS)
def test_a_pod_passes_the_restricted_pod_security_standard(changes):
    """As the page says: all of it but a path of the nodes."""
    expected = ["hostPath"] if (PATH,) in changes.values() else []

    assert [violations(pod) for pod in pod_specs(k8s.objects(asked("k8s", **changes)))] == [
        expected
    ]


@pytest.mark.parametrize(
    ("broken", "violation"),
    [
        (lambda pod: pod["securityContext"].pop("runAsNonRoot"), "runAsNonRoot"),
        (lambda pod: pod["securityContext"].pop("seccompProfile"), "seccompProfile"),
        (lambda pod: pod["containers"][0].pop("securityContext"), "drop"),
        (lambda pod: pod.update(hostIPC=True), "hostIPC"),
    ],
)
def test_a_looser_pod_would_be_seen(broken, violation):
    """Else the test above would prove nothing."""
    (pod,) = pod_specs(k8s.objects(asked("k8s")))
    broken(pod)

    assert violation in violations(pod)


def test_gpus_are_called_what_skypilot_calls_them(sky_python, tmp_path):
    """SkyPilot reads the same labels the other way round, in every kind of cluster."""
    file, told = tmp_path / "labels.json", tmp_path / "names.json"
    file.write_text(json.dumps(labels.GPU_LABELS))
    asks_sky(sky_python, tmp_path, NAMES, file, told)

    # Its finer names for the same GPU.
    ours = {"H100-80GB": "H100", "H100-MEGA-80GB": "H100", "RTX6000-ADA-GENERATION": "RTX6000-Ada"}
    read = json.loads(told.read_text())

    assert {name for name, _, _ in read} == set(labels.GPU_LABELS)
    assert [entry for entry in read if ours.get(entry[2], entry[2]) != entry[0]] == []


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
    written = yaml.safe_load(rendered("vm", data=(S3,), output=S3))["write_files"]
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
        assert ": quay.io/team/x\n" in text
        assert "REGISTRY\n" not in text
        assert "ghcr.io" not in text


def runs_step(project, folder, name, **variables):
    """Run a step of GitHub's workflow as its runner does; return how, and what it set."""
    text = yaml.safe_load(workflow.render(project, "github", None))
    step = next(s for s in text["jobs"]["image"]["steps"] if s.get("name") == name)
    assert text["defaults"]["run"]["shell"] == "bash"
    files = {n: str(folder / n) for n in ("GITHUB_ENV", "GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
    done = subprocess.run(
        # https://docs.github.com/actions/reference/workflows-and-actions/workflow-syntax
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
        env={"PATH": f"{folder}:/usr/bin:/bin", **files, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    return done, "".join(p.read_text() for p in folder.glob("GITHUB_*"))


def test_a_repository_with_capitals_has_an_image_in_small_letters(project, tmp_path):
    """Registries refuse capitals, and GitHub's expressions have no function for it."""
    done, said = runs_step(
        project, tmp_path, "Name the image, in small letters", NAME="ghcr.io/MyOrg/Kit"
    )

    assert (done.returncode, said) == (0, "SAMERUN_REGISTRY=ghcr.io/myorg/kit\n")


@pytest.mark.parametrize("code", [0, 83])
def test_a_push_that_fails_fails_the_job(project, tmp_path, code):
    """Else what it said last would be attested as a digest."""
    invoke = tmp_path / "invoke"
    invoke.write_text(f"#!/bin/sh\necho Pushing; echo ghcr.io/x/y@sha256:{'a' * 64}; exit {code}\n")
    invoke.chmod(0o755)

    done, said = runs_step(project, tmp_path, "Push by digest")

    assert (done.returncode == 0) is (code == 0)
    assert (f"digest=sha256:{'a' * 64}\n" in said) is (code == 0)


@pytest.mark.parametrize("reference", ["", "ghcr.io/x/y@sha256:0"])
def test_the_digest_is_posted_for_a_pull_request_too(project, tmp_path, reference):
    """What was built there is not pushed, and has the digest that it would have."""
    invoke = tmp_path / "invoke"
    invoke.write_text("#!/bin/sh\necho built-digest\n")
    invoke.chmod(0o755)

    done, said = runs_step(project, tmp_path, "Post the digest", REFERENCE=reference)

    assert done.returncode == 0, done.stderr
    assert f"`{reference or 'built-digest'}`" in said
    assert ("not pushed" in said) is (not reference)


def test_a_workflow_of_the_users_own_is_kept(project, tmp_path):
    """Nothing is written over; what says the same already is no hindrance."""
    path = tmp_path / "ci.yml"
    workflow.write("github", None, path, project)
    workflow.write("github", None, path, project)
    path.write_text("mine")

    with pytest.raises(OutputError, match="already exists"):
        workflow.write("github", None, path, project)


def test_an_unknown_service_is_told_the_known(project):
    """Two there are."""
    with pytest.raises(UsageError, match="github, gitlab"):
        workflow.render(project, "jenkins", None)
