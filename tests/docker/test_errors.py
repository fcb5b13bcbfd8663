"""Bad input: a clear message, the remedy, its own exit code, and nothing lost."""

import codecs
import json
import os
import subprocess
import tempfile
from pathlib import Path

import pytest
from driving import ROOT, invoke

from samerun.core.errors import NoGpu, SamerunError
from samerun.core.nvidia_smi import Gpu
from samerun.host.checkout.project import Project
from samerun.host.launch.request import Request
from samerun.host.launch.train import train as train_now
from samerun.host.machine import engine, gpus
from samerun.host.setup import gpu
from samerun.host.tracking import keys


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["digit"], 64, "Did you mean digits?"),
        (["digits", "--", "--epoch", "x"], 64, "--epochs --lr"),
        (["digits", "--tags", "x" * 65], 65, "65 characters"),
        (["digits", "--tags", "a,,b"], 65, "empty"),
        (["digits", "--data", "/does/not/exist"], 66, "/does/not/exist"),
        (["digits", "--gpus", "2"], 72, "--gpus 0"),
        (["digits", "--gpus", "all"], 72, "--gpus 0"),
        (["no/such/train.py"], 74, "no/such/train.py"),
        (["digits", "--api-key-file", "/does/not/exist"], 79, "/does/not/exist"),
        (["digits", "--cuda", "11"], 64, "13, 12"),
        (["digits", "--gpus", "0", "--network", "nowhere"], 64, "nowhere"),
        (["digits", "--gpus", "0", "--output", "/dev/null/x"], 73, "/dev/null"),
        (["digits", "--data", "/etc"], 66, "system"),
        (["digits", "--docker-arg=--privileged"], 64, "root privileges"),
        (["digits", "--docker-arg", "--volume /:/host"], 64, "--data"),
        (["digits", "--gpus", "0", "--docker-arg=--cpus=9999"], 64, "--docker-arg"),
        (["digits", "--gpus", "0", "--docker-arg=--runtime=absent"], 64, "--docker-arg"),
        (["digits", "--gpus", "0", "--memory", "1m"], 64, "--memory"),
    ],
)
def test_bad_input_has_its_message_and_code(image, tmp_path, arguments, code, words):
    """Whatever is wrong, the last line says what to do."""
    options = [] if "--output" in arguments else ["--output", str(tmp_path)]

    done = invoke("train", arguments[0], *options, *arguments[1:])

    assert code == done.returncode, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_gpus_are_checked_at_every_start(client, image, tmp_path):
    """A machine with a card, an engine without the toolkit: nothing becomes the CPU in silence."""
    if engine.inspect(client).serves_gpus:
        pytest.skip("this engine gives out GPUs")
    path = f"{tmp_path}:{os.environ['PATH']}"
    runs = ("--output", tmp_path / "runs")

    def start(*options, driver="580.65.06"):
        row = f"0, NVIDIA A100-SXM4-40GB, {driver}, 8.0, GPU-5c89852c, Disabled, 40960, 4"
        (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\necho '{row}'\n")
        (tmp_path / "nvidia-smi").chmod(0o755)
        done = invoke(*options, PATH=path)
        return done.returncode, done.stdout + done.stderr

    first = ("train", "tabular", "--image", image["reference"], "--name", "card", *runs)
    code, said = start(*first)
    assert (code, "neither NVIDIA's runtime nor CDI" in said) == (72, True), said
    # A hook that came after the engine's start: only the engine knows that it has none.
    (tmp_path / "nvidia-container-runtime-hook").write_text("#!/bin/sh\n")
    (tmp_path / "nvidia-container-runtime-hook").chmod(0o755)
    code, said = start(*first)
    assert (code, "could not select device driver" in said) == (72, True), said
    code, said = start("train", "--resume", "card", *runs, driver="535.183.01")
    assert (code, "535.183.01 is too old" in said, "--cuda" in said) == (78, True, False), said
    code, said = start("reproduce", tmp_path / "runs" / "card", "--check", driver="535.183.01")
    assert (code, "535.183.01 is too old" in said) == (95, True), said


def test_doctor_starts_cuda_in_a_container(image):
    """The driver's own library is not in the image; here the engine gives none."""
    card = Gpu(index=0, name="A100", driver="580.65.06", capability="8.0")
    without = gpus.Selection(asked="1", flag=None, gpus=(card,))

    with pytest.raises(NoGpu, match=r"libcuda\.so\.1 can't be loaded"):
        gpu.prove(without, image["reference"])


def test_absent_engine_is_told_with_the_remedy():
    """Exit code 69, and `invoke setup`."""
    done = invoke("build", DOCKER_HOST="unix:///nonexistent.sock")

    assert done.returncode == 69
    assert "invoke setup" in done.stderr


def test_dry_needs_no_engine_and_shows_no_secret(tmp_path):
    """The very command, with a key around."""
    key = "0123456789abcdef" * 3

    done = invoke(
        "train", "digits", "--dry", "--output", tmp_path,
        DOCKER_HOST="unix:///nonexistent.sock", WANDB_API_KEY=key,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("docker run ")
    assert key not in done.stdout + done.stderr
    assert "target=/run/secrets/netrc" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_run_folder_is_never_overwritten(image, tmp_path):
    """A second run of the same name is refused before it starts."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "precious").write_text("x")

    done = invoke("train", "tabular", "--output", tmp_path, "--name", "mine")

    assert done.returncode == 73
    assert (tmp_path / "mine" / "precious").read_text() == "x"


def test_full_disk_is_found_before_the_start(image, tmp_path):
    """An output on a file system with less than 100 MiB free."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        done = invoke("train", "tabular", "--output", tmp_path)
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)

    assert done.returncode == 73
    assert "MiB are free" in done.stderr


def as_user(uid, groups, action):
    """Run *action* in a child process with another user's rights; return what it returned."""
    if os.geteuid() != 0:
        pytest.skip("becoming another user needs root")
    read, write = os.pipe()
    # The other user may not be able to read Python's own files, which can lie in root's home.
    for encoding in ("ascii", "idna", "latin-1"):
        codecs.lookup(encoding)
    if os.fork() == 0:
        try:
            os.setgroups(groups)
            os.setgid(uid)
            os.setuid(uid)
            os.environ["HOME"] = "/tmp"
            result = action()
        except SamerunError as error:
            result = {"exit_code": error.exit_code, "text": str(error)}
        except BaseException as error:  # the child must not go on as a test
            result = {"exit_code": -1, "text": repr(error)}
        os.write(write, json.dumps(result).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        return json.loads(pipe.read())


def test_closed_socket_is_told_from_an_absent_engine(client):
    """Another exit code, another remedy: the group."""
    found = as_user(12345, [], lambda: engine.connect() and {})

    assert found["exit_code"] == 77
    assert "usermod" in found["text"]


def test_closed_key_file_is_told(tmp_path):
    """A file that another user keeps for itself."""
    (tmp_path / "key").write_text("0123456789" * 4)
    (tmp_path / "key").chmod(0o600)

    found = as_user(12345, [], lambda: keys.find(tmp_path / "key") and {})

    assert found["exit_code"] == 79
    assert "PermissionError" in found["text"]
    assert "0123456789" not in found["text"]


def test_any_uid_can_train(client, image, tmp_path, monkeypatch):
    """A user without a passwd entry: the training runs, and the files are theirs."""
    tmp_path.chmod(0o777)
    shared = Path(tempfile.gettempdir())
    for parent in tmp_path.parents:
        if parent != shared and shared in parent.parents:
            parent.chmod(0o755)
    monkeypatch.setenv("NETRC", "/nonexistent")
    group = os.stat("/var/run/docker.sock").st_gid
    asked = Request(
        target="tabular",
        arguments=("--epochs", "1"),
        output=str(tmp_path / "runs"),
        name="r",
        image=image["reference"],
        gpus="0",
    )

    def action():
        run = train_now(asked, Project(root=ROOT), lambda text: None)
        return {"exit_code": run.outcome.exit_code, "text": run.outcome.state}

    found = as_user(12345, [group], action)

    assert found == {"exit_code": 0, "text": "finished"}
    owners = {(p.lstat().st_uid, p.lstat().st_gid) for p in (tmp_path / "runs").rglob("*")}
    assert {(12345, 12345)} == owners
