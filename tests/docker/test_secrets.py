"""The W&B key: where it is found, and all the places where it must not be."""

import subprocess
import sys
from pathlib import Path

import pytest
from driving import HERE, ROOT, command, containers, environment, invoke

from samerun.core import record

sys.path.insert(0, str(ROOT / "tests" / "standin"))
import wbserver

KEY = "5ec2e7" * 7


@pytest.fixture
def server(tmp_path):
    """A W&B stand-in on loopback that takes our key and no other."""
    with wbserver.make_server(tmp_path / "server", entity="ent", api_keys=[KEY]) as server:
        yield server


def grep(folder):
    """Return the files under *folder* that hold the key."""
    files = [p for p in Path(folder).rglob("*") if p.is_file() and not p.is_symlink()]
    return [str(p) for p in files if KEY.encode() in p.read_bytes()]


def processes():
    """Return argv and environment of every process that this machine lets us see."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        for name in ("cmdline", "environ"):
            try:
                found[f"{folder.name}/{name}"] = (folder / name).read_bytes()
            except OSError:
                continue
    return found


def test_key_reaches_wandb_and_no_other_place(image, server, client, tmp_path):
    """Online with the key: the run arrives; argv, inspect, layers, log and record are clean."""
    (tmp_path / "key").write_text(KEY)
    options = ["--gpus", "0", "--output", tmp_path / "runs", "--name", "keyed"]
    options += ["--network", "host", "--api-key-file", tmp_path / "key"]
    process = subprocess.Popen(
        command("train", HERE / "script" / "sleeper.py", *options),
        cwd=ROOT,
        env=environment(WANDB_BASE_URL=server.url),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    printed = ""
    for line in process.stdout:
        printed += line
        if "WAITING" in line:
            break
    (container,) = containers(client, "keyed")
    inspected = str(client.api.inspect_container(container.id))
    seen = processes()
    container.stop(timeout=20)
    printed += process.communicate(timeout=60)[0]

    run = record.read(tmp_path / "runs" / "keyed")
    assert run.wandb[0].mode == "online", printed
    assert KEY not in printed
    assert KEY not in inspected
    assert [where for where, text in seen.items() if KEY.encode() in text] == []
    assert grep(tmp_path / "runs") == []
    history = ["docker", "history", "--no-trunc", "--format", "{{.CreatedBy}}"]
    layers = subprocess.run([*history, run.image.reference], capture_output=True, check=True)
    assert KEY.encode() not in layers.stdout
    assert run.secrets == ("WANDB_API_KEY",)


def test_key_is_in_no_debug_log(image, server, tmp_path):
    """wandb itself writes it there with WANDB_DEBUG set; the kit stars it out at the end."""
    options = ["--gpus", "0", "--mount-code", "--output", tmp_path / "runs", "--name", "talk"]
    surroundings = {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY}

    done = invoke(
        "train", HERE / "hostile" / "debug.py", *options, "--network", "host", **surroundings
    )

    run = record.read(tmp_path / "runs" / "talk")
    assert done.returncode == 0, done.stderr
    assert run.wandb[0].mode == "online"
    assert "DEBUG" in done.stdout + done.stderr
    assert KEY not in done.stdout + done.stderr
    assert grep(tmp_path / "runs") == []
    (internal,) = (tmp_path / "runs").rglob("run-*/logs/debug-internal.log")
    assert "api_key" in internal.read_text(), "there is nothing to star out: is that still needed?"


def test_key_from_netrc(image, server, tmp_path):
    """W&B's own file counts, as its variable does above; nothing prints the key."""
    (tmp_path / "netrc").write_text(f"machine {server.url[7:]} login user password {KEY}\n")
    options = ["--gpus", "0", "--network", "host", "--output", tmp_path / "runs"]
    surroundings = {"WANDB_BASE_URL": server.url, "NETRC": str(tmp_path / "netrc")}

    script = [HERE / "script" / "probe.py", *options, "--name", "netrc", "--", "--wandb", "t"]
    done = invoke("train", *script, **surroundings)

    run = record.read(tmp_path / "runs" / "netrc")
    assert run.wandb[0].mode == "online", done.stderr
    assert KEY not in done.stdout + done.stderr


def test_unreachable_wandb_does_not_stop_a_training(image, tmp_path):
    """The run goes on offline and says so; the training's exit code is 0."""
    options = ["--gpus", "0", "--output", tmp_path, "--name", "secrets-alone", "--network", "none"]

    probe = HERE / "script" / "probe.py"
    done = invoke("train", probe, *options, "--", "--wandb", "x", WANDB_API_KEY=KEY)

    run = record.read(tmp_path / "secrets-alone")
    assert done.returncode == 0, done.stderr
    assert run.wandb[0].mode == "offline"
    assert "can't be reached" in done.stderr
