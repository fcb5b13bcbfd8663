"""The files of `invoke cloud` as text, and what is refused before one is written."""

import dataclasses
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from samerun.errors import (
    CloudEngineMissing,
    DataError,
    KeyFileError,
    NoCredentials,
    NotPullable,
    OutputError,
    UnknownAccelerator,
    UsageError,
)
from samerun.host import git, registry
from samerun.host.cloud import buckets, check, k8s, request, sky, vm, write
from samerun.host.cloud.request import Asked, Gpus, Place

DIGEST = "a" * 64
IMAGE = f"ghcr.io/you/samerun@sha256:{DIGEST}"
RENDER = write.RENDER


def asked(engine, **changes):
    given = {"image": IMAGE, "target": "digits", "name": "demo", "commit": "c" * 40}
    given |= {"output": Place(kind="s3", name="runs")} if engine == "sky" else {}
    given |= {"source": "https://host/kit.git"} if engine == "vm" else {}
    return Asked(engine=engine, **{**given, **changes})


def rendered(engine, **changes):
    return RENDER[engine](asked(engine, **changes))


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
    data = Place(kind="s3", name="photos", path="small")
    text, off = (rendered(engine, data=data, fingerprint=f, dirty=True) for f in (True, False))

    assert "s3://photos/small" in text.partition("SAMERUN_DATA_SOURCE")[2]
    assert "c" * 40 + "-dirty" in text
    assert "SAMERUN_FINGERPRINT" not in text
    assert "SAMERUN_FINGERPRINT" in off


def test_a_vm_always_takes_the_fingerprint():
    """It runs `invoke train`; a switch without effect would be a lie."""
    with pytest.raises(UsageError, match="no-fingerprint"):
        request.check(asked("vm", fingerprint=False))


def test_arguments_survive_every_shell_and_yaml():
    """A quote, a blank, a dollar, a colon, a line's end: the recipe gets what was typed."""
    nasty = ("--note", 'it\'s $HOME: "a b"\n#c', "--x", "yes")

    pod = pod_of(rendered("k8s", arguments=nasty))
    task = yaml.safe_load(rendered("sky", arguments=nasty))
    script = next(f for f in vm.document(asked("vm", arguments=nasty))["write_files"])
    train = vm.document(asked("vm", arguments=nasty))["write_files"][1]["content"]
    as_shell = task["run"].splitlines()
    line = sky.command(asked("sky", arguments=nasty))
    said = subprocess.run(
        ["sh", "-c", f"docker() {{ printf '%s\\0' \"$@\"; }}; docker=docker; {line}"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    assert line in task["run"]
    assert tuple(pod["containers"][0]["args"][-4:]) == nasty
    assert tuple(said.split("\0")[-5:-1]) == nasty
    assert script["path"] == vm.PREPARE
    assert as_shell[:2] == ["(", "set -eu"]
    assert _arguments_on_the_vm(train)[-4:] == list(nasty)


def _arguments_on_the_vm(script):
    """Run the script with `invoke` that prints what it gets."""
    lines = script.replace(f"exec {vm.VENV}/bin/invoke", "printf '%s\\0'")
    kept = "\n".join(x for x in lines.split("\n") if not x.startswith(("cd ", "mkdir ")))
    done = subprocess.run(["sh", "-c", kept], capture_output=True, text=True, check=True)
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
    pod = pod_of(rendered("k8s", data=Place(kind="pvc", name="photos")))
    container = pod["containers"][0]
    mounts = {m["mountPath"]: m.get("readOnly", False) for m in container["volumeMounts"]}

    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"] == {
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    assert mounts["/data"] is True
    assert {"medium": "Memory", "sizeLimit": "16Gi"} in [v.get("emptyDir") for v in pod["volumes"]]


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
    assert "NCCL_SOCKET_IFNAME=^lo,docker" in task
    assert kinds[-2:] == ["TrainingRuntime", "TrainJob"]


def test_a_vm_goes_on_where_its_run_is_there_already(tmp_path):
    """First `--name`, and once the record is there `--resume`: a power cut is a start."""
    place = Place(kind="path", name=str(tmp_path))
    script = vm.train(asked("vm", output=place))

    first = _arguments_on_the_vm(script)
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "run.json").touch()
    second = _arguments_on_the_vm(script)

    (tmp_path / "demo" / "run.json").write_text('{"outcome": {\n "state": "finished"}}')
    third = _arguments_on_the_vm(script)

    assert third == []
    assert first[:4] == ["train", "digits", "--name", "demo"]
    assert IMAGE in first
    assert second[:3] == ["train", "--resume", "demo"]


@pytest.mark.parametrize(
    ("text", "gpus"),
    [
        ("A100:8", Gpus(name="A100", number=8)),
        ("L4", Gpus(name="L4", number=1)),
        ("2", Gpus(number=2)),
        (None, Gpus()),
    ],
)
def test_gpus_are_read_as_clouds_write_them(text, gpus):
    """A name, a number, or both."""
    assert request.parse_gpus(text) == gpus


def test_no_gpus_of_a_kind_are_a_contradiction():
    """Nothing falls back to the CPU in silence."""
    with pytest.raises(UsageError, match=r"A100:0.*none"):
        request.parse_gpus("A100:0")


@pytest.mark.parametrize("text", ["A100:", ":8", "A100:eight", "8:A100"])
def test_gpus_that_are_none_are_refused(text):
    """With examples."""
    with pytest.raises(UsageError, match="A100:8"):
        request.parse_gpus(text)


@pytest.mark.parametrize(
    ("engine", "changes", "said"),
    [
        ("sky", {"output": None}, "disk"),
        ("sky", {"data": Place(kind="pvc", name="x")}, "only Kubernetes"),
        ("k8s", {"output": Place(kind="s3", name="runs")}, "pvc://"),
        ("k8s", {"data": Place(kind="path", name="./photos")}, "begins with /"),
        ("sky", {"output": Place(kind="path", name="./runs")}, r"--output \./runs: .*disk"),
        ("sky", {"output": Place(kind="s3", name="My_Runs")}, "no bucket can be called 'My_Runs'"),
        ("vm", {"nodes": 2}, "one machine"),
        ("vm", {"source": None}, "--source"),
        ("k8s", {"target": "train.py"}, "/code/train.py"),
        ("k8s", {"name": "Has_Capitals"}, "small letters"),
        ("k8s", {"nodes": 0}, "--nodes 0, --procs 1"),
        ("k8s", {"nodes": 2, "name": "n" * 49}, "up to 48 characters; it has 49"),
        ("k8s", {"nodes": 11, "name": "n" * 48}, "up to 47 characters; it has 48"),
        ("sky", {"memory": "32"}, "as in 32g"),
        ("k8s", {"shm_size": "much"}, "--shm-size 'much'"),
        ("sky", {"cpus": -1}, "--cpus -1"),
        ("vm", {"cpus": 4}, "provider"),
        ("sky", {"pull_secret": "x"}, "only Kubernetes"),
    ],
)
def test_what_an_engine_cannot_do_is_refused(engine, changes, said):
    """With what to do instead."""
    with pytest.raises(UsageError, match=said):
        request.check(asked(engine, **changes))


@pytest.mark.parametrize("text", ["https://host/x.zip", "s3:/bucket/x", "S3://bucket"])
def test_an_address_that_nothing_mounts_is_refused(text):
    """With the forms that can be."""
    with pytest.raises(UsageError, match="s3://BUCKET"):
        request.parse_place("--data", text)


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        (f"samerun@sha256:{DIGEST}", "names no registry"),
        (f"localhost:5000/x@sha256:{DIGEST}", "others can't reach it"),
        (f"127.0.0.1:5000/x@sha256:{DIGEST}", "others can't reach it"),
    ],
)
def test_an_image_that_is_only_here_is_refused(reference, said):
    """With how to push it; no registry is asked."""
    with pytest.raises(NotPullable, match=said) as raised:
        check.pullable(None, reference)

    assert "invoke push" in str(raised.value)


def test_a_tag_is_no_image_for_elsewhere():
    """It may be another image tomorrow."""
    with pytest.raises(UsageError, match="names no digest"):
        check.pullable(None, "ghcr.io/you/samerun:latest")


@pytest.mark.parametrize(("answer", "said"), [(False, "does not serve"), (None, "did not say")])
def test_a_registry_without_the_image_is_named(monkeypatch, answer, said):
    """And how to push there."""
    monkeypatch.setattr(registry, "ask", lambda *_: answer)

    with pytest.raises(NotPullable, match=f"ghcr.io {said}") as raised:
        check.pullable(None, IMAGE)

    assert "invoke push --registry ghcr.io/you/samerun" in str(raised.value)


def test_skypilots_own_catalogue_is_the_list(tmp_path):
    """Where it is on this machine; the newest version of it."""
    for version, name in (("v8", "OLD"), ("v10", "NEW9000")):
        table = tmp_path / version / "common" / "accelerators.csv"
        table.parent.mkdir(parents=True)
        table.write_text(f"AcceleratorName,Clouds\n{name},x\n")

    assert check.known_accelerators("sky", tmp_path) == {"NEW9000"}
    assert "A100" in check.known_accelerators("sky", tmp_path / "none")


def test_an_unknown_accelerator_is_told_the_nearest():
    """Capitals and typing errors."""
    with pytest.raises(UnknownAccelerator, match=r"Nearest: .*\bA100\..*`sky gpus list`"):
        check.accelerator("a10O", check.COMMON)


def test_capitals_of_an_accelerator_do_not_matter():
    """The file has the engine's own spelling."""
    assert check.accelerator("h100", check.COMMON) == "H100"
    assert check.accelerator("", check.COMMON) == ""


@pytest.mark.parametrize(
    ("image", "error", "said"),
    [
        (f"samerun@sha256:{DIGEST}", NotPullable, "names no registry"),
        (f"ghcr.io/You/Kit@sha256:{DIGEST}", UsageError, "ghcr.io/you/kit@sha256"),
        ("ghcr.io/you/kit@sha256:abc", UsageError, "no whole digest"),
    ],
)
def test_an_image_that_no_registry_has_is_refused_unasked(image, error, said):
    """With --no-check too: it could never be pulled."""
    with pytest.raises(error, match=said):
        check.reference(image)


def test_a_folder_that_skypilot_uploads_is_there_and_named_in_full(tmp_path, monkeypatch):
    """It would look for it from wherever the file is launched."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()

    assert write.uploaded("photos").name == str(tmp_path / "photos")
    with pytest.raises(DataError, match=f"--data nowhere: .*{tmp_path}/nowhere"):
        write.uploaded("nowhere")


def test_a_file_that_cannot_be_written_is_an_error_of_ours(tmp_path):
    """With its path, and no traceback."""
    with pytest.raises(OutputError, match=f"{tmp_path} can't be written: Is a directory"):
        write.write(asked("k8s"), str(tmp_path), None)


def test_without_the_engine_it_says_what_to_install(monkeypatch, tmp_path):
    """Nothing of the name on PATH."""
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(CloudEngineMissing, match="pip install 'skypilot"):
        check.engine("sky")


@pytest.mark.parametrize(
    ("program", "said", "code"),
    [
        ("sky", "No cloud is enabled. SkyPilot will not be able to run any task.", 1),
        ("sky", "No cloud is enabled.", 0),
        ("sky", "Enabled infra\n  No infra to check/enabled.", 0),
        ("kubectl", "no", 1),
        ("kubectl", "The connection to the server localhost:8080 was refused", 1),
        ("kubectl", "E1125 04:07:28.91 memcache.go:265] Unhandled\nThe connection", 1),
    ],
)
def test_without_access_it_says_what_the_engine_says(monkeypatch, tmp_path, program, said, code):
    """The engine's own words, and its own login."""
    command = tmp_path / program
    command.write_text(f"#!/bin/sh\necho '{said}'\nexit {code}\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    with pytest.raises(NoCredentials, match=said.splitlines()[-1]) as raised:
        check.engine(program)

    assert "memcache" not in str(raised.value)


def test_an_enabled_cloud_is_access(monkeypatch, tmp_path):
    """Whatever is said of the others."""
    command = tmp_path / "sky"
    command.write_text("#!/bin/sh\necho '  Notes: none'; echo '  AWS [compute, storage]'\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    assert check.engine("sky") is None


def test_skypilot_is_not_started_without_a_key(monkeypatch, tmp_path):
    """What to do is said before SkyPilot would refuse in words of its own."""
    command = tmp_path / "sky"
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))

    with pytest.raises(KeyFileError, match="--offline"):
        write.launch(asked("sky"), tmp_path / "f.yaml", lambda _: None)


def test_a_registry_s_login_goes_along_by_name(monkeypatch, tmp_path):
    """Where it is in the environment."""
    monkeypatch.setenv("SAMERUN_REGISTRY_USER", "me")
    monkeypatch.setenv("SAMERUN_REGISTRY_PASSWORD", "not-a-password")

    line = write.command(asked("sky", offline=True), tmp_path / "f.yaml")

    assert line[5:-1] == ["--secret", sky.REGISTRY_LOGIN[0], "--secret", sky.REGISTRY_LOGIN[1]]


def test_launch_hands_the_file_over_and_the_key_by_name(monkeypatch, tmp_path):
    """The key is in the command's environment, never among its arguments."""
    command = tmp_path / "sky"
    command.write_text(
        f'#!/bin/sh\n[ "$1" = check ] && exit 0\necho "$@" >{tmp_path}/said\n'
        f'echo "$WANDB_API_KEY" >{tmp_path}/key\n'
    )
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)

    write.launch(asked("sky"), tmp_path / "f.yaml", lambda _: None)

    said = (tmp_path / "said").read_text()
    assert said.split() == [
        *("jobs", "launch", "--yes", "--detach-run", "--secret", "WANDB_API_KEY"),
        str(tmp_path / "f.yaml"),
    ]
    assert (tmp_path / "key").read_text().strip() == "k" * 40


def test_a_vm_is_launched_by_its_provider(tmp_path):
    """There is no engine to hand it to; the line for one provider is said."""
    with pytest.raises(UsageError, match="gcloud compute instances create"):
        write.launch(asked("vm"), tmp_path / "f", lambda _: None)


def test_offline_needs_no_secret():
    """Nor names one."""
    for engine in request.ENGINES:
        text = rendered(engine, offline=True)
        assert "WANDB_API_KEY" not in text
        assert "samerun-wandb" not in text
        assert "WANDB_MODE" in text


def test_a_key_is_asked_of_the_cloud_at_each_start():
    """Into memory, readable by root alone, before the run begins."""
    fetched = asked("vm", key_command="gcloud secrets versions access latest --secret=wandb")

    script = vm.train(fetched)

    assert "(umask 077; gcloud" in script
    assert "--secret=wandb >/run/samerun/wandb-key)" in script
    assert "RuntimeDirectoryMode=0700" in vm.unit(fetched)


def test_docker_is_logged_in_before_the_image_is_pulled():
    """As the user that the training runs as too, and after there is an engine."""
    lines = vm.prepare(asked("vm", login_command="token | docker login host")).splitlines()
    at = lines.index("token | docker login host")

    assert lines[at - 1].endswith("/invoke setup")
    assert lines[at + 1].endswith(f"/invoke pull {IMAGE}")
    assert lines.index("export HOME=/root") < at


def test_a_machine_may_say_which_s3_it_is():
    """Its own file comes after ours, and no option in a remote's name wins over both."""
    place = Place(kind="s3", name="runs", path="my runs")
    unit = vm.unit(asked("vm", output=place)).splitlines()
    text = rendered("vm", data=place, output=place)

    assert unit.index('Environment="RCLONE_S3_PROVIDER=AWS"') < unit.index(
        f"EnvironmentFile=-{buckets.ACCESS}"
    )
    assert "':s3:runs/my runs/demo'" in text
    assert ":s3," not in text


def test_without_buckets_a_vm_knows_nothing_of_them():
    """Neither the program nor units."""
    assert "rclone" not in rendered("vm")
    assert "samerun-upload" not in rendered("vm")


def test_checkpoints_are_noted_first_and_sent_last(tmp_path):
    """Whatever else is in the bucket reaches at least as far as the checkpoints there."""
    folder = tmp_path / "demo"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "old.pt").touch()
    script = buckets.upload(asked("vm", output=Place(kind="s3", name="runs")), str(folder), "u")
    # Training goes on meanwhile: a checkpoint comes after the first rclone has begun.
    stub = f"""
    flock() {{ :; }}
    systemctl() {{ echo "systemctl $*" >&2; echo inactive; }}
    rclone() {{
        echo "$1 $(ls {folder}.noted | tr '\n' ' ')"
        touch {folder}/checkpoints/new.pt
    }}
    """
    script = script.replace("/run/samerun-upload.lock", str(tmp_path / "lock"))
    done = subprocess.run(["sh", "-c", stub + script], capture_output=True, text=True, check=True)

    assert [line.strip() for line in done.stdout.splitlines()[:2]] == ["copy old.pt", "sync old.pt"]
    assert f"systemctl stop --no-block {buckets.TIMER}" in done.stderr
    assert not (tmp_path / "demo.noted").exists()


@pytest.mark.parametrize(
    ("rclone", "code", "fetched"),
    [
        ("mkdir $7; touch $7/run.json", 0, True),
        ("mkdir $7; touch $7/run.json; return 5", 5, False),
        ("mkdir $7; touch $7/log.txt", 0, False),
        ("true", 0, False),
    ],
    ids=["whole", "broken off", "without a record", "nothing there"],
)
def test_a_run_is_fetched_whole_or_not_at_all(tmp_path, rclone, code, fetched):
    """Half a folder would be taken for the run; where there is none yet, the run begins."""
    folder = tmp_path / "demo"
    lines = buckets.fetch_run(asked("vm", output=Place(kind="s3", name="runs")), str(folder))
    script = "\n".join(["set -eu", "chown() { :; }", f"rclone() {{ {rclone}; }}", *lines])

    done = subprocess.run(["sh", "-c", script], check=False)

    assert (done.returncode, (folder / "run.json").is_file()) == (code, fetched)


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

    texts = {k8s.render(dataclasses.replace(base, **change)) for change in ({}, *changed)}

    assert len(texts) == len(changed) + 1


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("https://host/kit.git", "https://host/kit.git"),
        ("https://me:password@host/kit.git", None),
    ],
)
def test_a_checkout_s_origin_is_told_without_a_password(tmp_path, url, found):
    """It would stand in the user data, which the whole machine can read."""
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    subprocess.run(["git", "-C", tmp_path, "remote", "add", "origin", url], check=True)

    assert git.origin(tmp_path) == found
