"""The files of `invoke cloud` as text."""

import dataclasses
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from asking import DIGEST, IMAGE, arguments_on_the_vm, asked, expanded, rendered

from samerun.host.cloud import k8s, request, sky, vm
from samerun.host.cloud.request import Gpus, Location


def pod_of(text):
    job = next(d for d in yaml.safe_load_all(text) if d["kind"] == "Job")
    return job["spec"]["template"]["spec"]


@pytest.mark.parametrize("engine", request.ENGINES)
def test_every_file_names_the_image_by_digest_and_no_key(engine, monkeypatch):
    """Whatever stands in the environment; and the same request gives the same bytes."""
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)

    text = rendered(engine)

    assert IMAGE in text
    assert "k" * 40 not in text
    assert text == rendered(engine)


@pytest.mark.parametrize("engine", ["sky", "k8s"])
def test_what_the_record_needs_is_carried_along(engine):
    """Name, expected image, commit and engine reach the container; the tag is the digest."""
    text = rendered(engine, tags=("mine",))
    values = ["SAMERUN_RUN", "SAMERUN_IMAGE", "SAMERUN_COMMIT", "SAMERUN_ENGINE", "c" * 40]

    assert [value for value in values if value not in text] == []
    assert f"mine,{DIGEST}" in text


@pytest.mark.parametrize("engine", ["sky", "k8s"])
def test_what_the_data_are_is_left_to_the_container(engine):
    """It is told where they are from, and not to read them only where that was asked for."""
    data = Location(kind="s3", name="photos", path="small")
    text, off = (rendered(engine, data=(data,), fingerprint=f, dirty=True) for f in (True, False))

    assert "s3://photos/small" in text.partition("SAMERUN_DATA_SOURCE")[2]
    assert "c" * 40 + "-dirty" in text
    assert "SAMERUN_FINGERPRINT" not in text
    assert "SAMERUN_FINGERPRINT" in off


NAMED = ("photos=s3://pics/small", "labels=gs://tables")


def test_several_data_have_a_place_each_on_every_engine():
    """At /data/NAME in the container, and the record learns where each is from."""
    data = request.parse_data(NAMED)
    pod = pod_of(rendered("k8s", data=data))
    mounts = {m["mountPath"]: m["name"] for m in pod["containers"][0]["volumeMounts"]}
    task = yaml.safe_load(rendered("sky", data=data))
    script = vm.train(asked("vm", data=data))

    assert (mounts["/data/photos"], mounts["/data/labels"]) == ("data-0", "data-1")
    assert {"data-0", "data-1"} <= {volume["name"] for volume in pod["volumes"]}
    assert task["file_mounts"]["/samerun/data/photos"]["source"] == "s3://pics/small"
    assert "target=/data/labels" in task["run"]
    assert "rclone sync" in script
    assert ":gcs:tables /srv/samerun/data/labels" in script
    found = arguments_on_the_vm("\n".join(x for x in script.split("\n") if "rclone" not in x))
    assert f"photos={vm.DATA}/photos" in found
    for text in (rendered("k8s", data=data), rendered("sky", data=data)):
        assert "photos=s3://pics/small labels=gs://tables" in text


def test_two_buckets_of_one_pod_have_a_volume_each():
    """Two volumes of one name would be one."""
    documents = list(
        yaml.safe_load_all(rendered("k8s", data=request.parse_data(("a=s3://aaa", "b=s3://bbb"))))
    )
    names = [d["metadata"]["name"] for d in documents if d["kind"] == "PersistentVolume"]

    assert names == ["demo-data-0", "demo-data-1"]


def test_arguments_survive_every_shell_and_yaml():
    """A quote, a blank, a dollar, a colon, a line's end: the recipe gets what was typed."""
    nasty = ("--note", 'it\'s $HOME $(HOME) $$: "a b"\n#c', "--x", "yes")

    pod = pod_of(rendered("k8s", arguments=nasty))
    task = yaml.safe_load(rendered("sky", arguments=nasty))
    script = next(f for f in vm.document(asked("vm", arguments=nasty))["write_files"])
    train = vm.document(asked("vm", arguments=nasty))["write_files"][1]["content"]
    as_shell = task["run"].splitlines()
    line = sky.command(asked("sky", arguments=nasty))

    assert line in task["run"]
    words = pod["containers"][0]["args"][-4:]
    assert tuple(expanded(word, {"HOME": "/root"}) for word in words) == nasty
    assert tuple(printed(line)[-4:]) == nasty
    assert script["path"] == vm.PREPARE
    assert as_shell[:2] == ["(", "set -eu"]
    assert arguments_on_the_vm(train)[-4:] == list(nasty)


def test_variables_survive_every_shell_and_yaml():
    """Also one that looks like a placeholder of ours; their names are listed for the record."""
    nasty = {"NOTE": 'it\'s $HOME $(HOME) $$ `id`: "a b" #c @USER@ {{x}}', "EMPTY": ""}

    pod = pod_of(rendered("k8s", variables=nasty))
    words = printed(f"{sky.command(asked('sky', variables=nasty))} END")
    on_vm = arguments_on_the_vm(vm.train(asked("vm", variables=nasty)))
    container = {
        entry["name"]: expanded(entry.get("value", ""), {"HOME": "/root"})
        for entry in pod["containers"][0]["env"]
    }

    assert nasty.items() <= container.items()
    assert container["SAMERUN_ENV"] == "EMPTY,NOTE"
    assert [f"--env={name}={value}" for name, value in nasty.items()] == [
        word for word in reversed(words) if word.startswith(("--env=NOTE", "--env=EMPTY"))
    ]
    assert [on_vm[at + 1] for at, word in enumerate(on_vm) if word == "--env"] == [
        f"{name}={value}" for name, value in nasty.items()
    ]


def printed(line):
    """Return the words that a shell hands to docker in *line*."""
    stub = "docker() { printf '%s\\0' \"$@\"; }; docker=docker;"
    done = subprocess.run(
        ["sh", "-c", f"{stub} {line}"], capture_output=True, text=True, check=True
    )
    return done.stdout.split("\0")[:-1]


def test_75_starts_again_and_a_failure_does_not():
    """Each engine in its own words."""
    task = yaml.safe_load(rendered("sky"))
    job = next(d for d in yaml.safe_load_all(rendered("k8s")) if d["kind"] == "Job")
    again, failed = job["spec"]["podFailurePolicy"]["rules"][1:]

    assert task["resources"]["job_recovery"]["recover_on_exit_codes"] == [75]
    assert task["resources"]["job_recovery"]["max_restarts_on_errors"] == 0
    assert (again["action"], again["onExitCodes"]["values"]) == ("Ignore", [75])
    assert (failed["action"], failed["onExitCodes"]["operator"]) == ("FailJob", "NotIn")
    assert failed["onExitCodes"]["values"] == [75, 137, 143, 255]
    assert "RestartForceExitStatus=75" in rendered("vm")


def test_a_pod_is_as_hardened_as_a_container_on_a_laptop():
    """No root, no capabilities, nothing writable but outputs and memory; shm is sized."""
    given = {"gpus": Gpus(name="A100", number=8), "procs": 8}
    pod = pod_of(rendered("k8s", data=(Location(kind="pvc", name="photos"),), **given))
    container = pod["containers"][0]
    mounts = {m["mountPath"]: m.get("readOnly", False) for m in container["volumeMounts"]}

    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"] == {
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    assert mounts["/data"] is True
    assert {"medium": "Memory", "sizeLimit": "32Gi"} in [v.get("emptyDir") for v in pod["volumes"]]


def test_shared_memory_grows_with_the_processes():
    """4 GB for each where the cores are unknown; a VM sizes it itself, unless it is given."""
    eight = {"gpus": Gpus(name="A100", number=8), "procs": 8}

    assert "--shm-size=32g" in rendered("sky", **eight)
    assert "--shm-size=4g" in rendered("sky")
    assert "--shm-size=512m" in rendered("sky", shm_size="512m", **eight)
    assert "--shm-size" not in arguments_on_the_vm(vm.train(asked("vm", **eight)))
    assert "512m" in arguments_on_the_vm(vm.train(asked("vm", shm_size="512m")))


def test_a_runtime_class_is_that_of_the_pods():
    """Clusters whose default runtime is not NVIDIA's need it, on one machine or several."""
    one = pod_of(rendered("k8s", runtime_class="nvidia"))
    runtime = k8s.objects(asked("k8s", nodes=2, runtime_class="nvidia"))[-2]
    jobs = runtime["spec"]["template"]["spec"]["replicatedJobs"]

    assert one["runtimeClassName"] == "nvidia"
    assert jobs[0]["template"]["spec"]["template"]["spec"]["runtimeClassName"] == "nvidia"
    assert "runtimeClassName" not in pod_of(rendered("k8s"))


@pytest.mark.parametrize(
    ("name", "product"),
    [
        ("T4", "Tesla-T4"),
        ("V100", "Tesla-V100-PCIE-16GB"),
        ("L4-SHARED", "NVIDIA-L4-SHARED"),
        ("A100-MIG-1g.5gb", "NVIDIA-A100-SXM4-40GB-MIG-1g.5gb"),
        ("NVIDIA-GeForce-RTX-3080", "NVIDIA-GeForce-RTX-3080"),
        ("NVIDIA-A30-MIG-1g.6gb-SHARED", "NVIDIA-A30-MIG-1g.6gb-SHARED"),
    ],
)
def test_gpus_are_found_as_the_feature_discovery_calls_them(name, product):
    """Shared ones and slices by its suffixes, and every product by its full name."""
    required = pod_of(rendered("k8s", gpus=Gpus(name=name, number=1)))["affinity"]["nodeAffinity"]
    terms = required["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    products = [v for t in terms for e in t["matchExpressions"] for v in e["values"]]

    assert product in products
    assert all(("MIG" in name) == ("MIG" in v) for v in products)


def test_a_pod_that_a_machine_took_along_starts_all_of_them_again():
    """Evicted, stopped before a checkpoint, or (255) switched off; a failure ends the set."""
    runtime = k8s.objects(asked("k8s", nodes=2))[-2]["spec"]["template"]["spec"]
    evicted, ended = runtime["replicatedJobs"][0]["template"]["spec"]["podFailurePolicy"]["rules"]
    again, failed = runtime["failurePolicy"]["rules"]

    assert evicted["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
    assert ended["onExitCodes"]["values"] == [75, 105, 143, 255]
    assert (again["action"], again["onJobFailureReasons"]) == (
        "RestartJobSet",
        ["PodFailurePolicy"],
    )
    assert (failed["action"], failed["onJobFailureReasons"]) == (
        "FailJobSet",
        ["BackoffLimitExceeded"],
    )


def test_cores_and_memory_are_asked_for_in_each_engine_s_words():
    """At least so many; Kubernetes holds the memory to it as well."""
    wanted = {"cpus": 8, "memory": "32g"}
    task = yaml.safe_load(rendered("sky", **wanted))["resources"]
    container = pod_of(rendered("k8s", **wanted))["containers"][0]

    assert (task["cpus"], task["memory"]) == ("8+", "32+")
    assert container["resources"] == {
        "requests": {"cpu": 8, "memory": "32Gi"},
        "limits": {"memory": "32Gi"},
    }
    assert "resources" not in pod_of(rendered("k8s"))["containers"][0]


def test_a_pod_may_read_itself_and_nothing_more():
    """From its own status it learns which digest runs."""
    kinds = {d["kind"]: d for d in k8s.objects(asked("k8s"))}

    assert kinds["Role"]["rules"] == [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]
    assert kinds["Job"]["spec"]["template"]["spec"]["serviceAccountName"] == "demo"


def test_an_account_of_the_cluster_s_own_is_bound_and_not_made():
    """It has what a cloud or a registry wants to see, from before the first pod."""
    objects = k8s.objects(asked("k8s", account="team", pull_secret="registry"))
    kinds = {d["kind"]: d for d in objects}
    pod = kinds["Job"]["spec"]["template"]["spec"]

    assert "ServiceAccount" not in kinds
    assert kinds["RoleBinding"]["subjects"] == [{"kind": "ServiceAccount", "name": "team"}]
    assert pod["serviceAccountName"] == "team"
    assert pod["imagePullSecrets"] == [{"name": "registry"}]


def test_several_machines_know_where_they_meet():
    """SkyPilot's first machine; the trainer tells each pod by variables of its own."""
    task = rendered("sky", nodes=2, gpus=Gpus(name="A100", number=8), procs=8)
    kinds = [d["kind"] for d in k8s.objects(asked("k8s", nodes=2))]

    assert 'SAMERUN_RDZV="$head":29400' in task
    assert 'SAMERUN_NODE_RANK="$SKYPILOT_NODE_RANK"' in task
    # The container finds the interface that leads to the first machine.
    assert "NCCL_SOCKET_IFNAME" not in task
    assert kinds[-2:] == ["TrainingRuntime", "TrainJob"]


def test_offline_needs_no_secret():
    """Nor names one."""
    for engine in request.ENGINES:
        text = rendered(engine, offline=True)
        assert "WANDB_API_KEY" not in text
        assert "samerun-wandb" not in text
        assert "WANDB_MODE" in text


def runs_sky_script(stub, output, **variables):
    """Run SkyPilot's script with the function `show` of *stub* in the place of docker."""
    lines = sky.script(asked("sky"))
    lines = lines.replace("docker info >/dev/null 2>&1", "true").replace("docker=docker;", "")
    lines = lines.replace(sky.OUTPUT, str(output))
    return subprocess.run(
        ["bash", "-c", f"{stub}\ndocker=show\n{lines}"],
        capture_output=True,
        text=True,
        check=False,
        env={"WANDB_API_KEY": "not-a-key", "PATH": "/usr/bin:/bin", **variables},
    )


def test_a_private_registry_is_logged_in_to_where_secrets_say_so(tmp_path):
    """The password goes by a pipe, the login lies in memory, and pull and run use it."""
    stub = """
    show() {
        [ "${3:-}" != login ] || echo "PASSWORD $(cat)"
        [ "$1" != --config ] || echo "$3 WITH $2" "$@"
    }
    """
    login = {"SAMERUN_REGISTRY_USER": "me", "SAMERUN_REGISTRY_PASSWORD": "not-a-password"}

    public = runs_sky_script(stub, tmp_path)
    private = runs_sky_script(stub, tmp_path, **login)
    folder = re.search(r"login WITH (\S+)", private.stdout)[1]

    assert (public.returncode, public.stdout) == (0, "")
    assert private.returncode == 0, private.stderr
    assert "PASSWORD not-a-password" in private.stdout
    assert private.stdout.count("not-a-password") == 1
    assert f"pull WITH {folder} " in private.stdout
    assert f"run WITH {folder} " in private.stdout
    assert folder.startswith("/dev/shm/")
    assert not Path(folder).exists()


def test_the_key_is_gone_from_memory_after_a_run(tmp_path):
    """SkyPilot's script lends it as a file and takes it back, whatever the exit code."""
    stub = """
    show() {
        for word in "$@"; do case $word in *netrc,target=*)
            word=${word#*source=}; echo "AT ${word%%,*}"; cat "${word%%,*}"; return 75
        esac; done
    }
    """
    done = runs_sky_script(stub, tmp_path)

    assert done.returncode == 75, done.stderr
    assert "password not-a-key" in done.stdout
    assert not Path(re.search(r"AT (\S+)", done.stdout)[1]).exists()


def test_a_request_is_complete_in_its_fields():
    """Two that differ anywhere give different files."""
    base = asked("k8s")
    changed = [{"seed": 7}, {"procs": 3}, {"shm_size": "1g"}, {"spot": True}, {"nodes": 2}]
    changed += [{"variables": {"A": "1"}}, {"runtime_class": "nvidia"}]

    texts = {k8s.render(dataclasses.replace(base, **change)) for change in ({}, *changed)}

    assert len(texts) == len(changed) + 1
