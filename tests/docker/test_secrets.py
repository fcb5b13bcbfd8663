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


def test_key_from_environment_and_netrc(image, server, tmp_path):
    """Both of W&B's own places count; the key then is in no process's environment inside."""
    (tmp_path / "netrc").write_text(f"machine {server.url[7:]} login user password {KEY}\n")
    probe = HERE / "script" / "probe.py"
    options = ["--gpus", "0", "--network", "host", "--output", tmp_path / "runs"]
    base = {"WANDB_BASE_URL": server.url}

    for name, found in (
        ("env", {"WANDB_API_KEY": KEY}),
        ("netrc", {"NETRC": str(tmp_path / "netrc")}),
    ):
        done = invoke(
            "train", probe, *options, "--name", name, "--", "--wandb", "t", **base, **found
        )
        run = record.read(tmp_path / "runs" / name)
        assert run.wandb[0].mode == "online", done.stderr
        assert KEY not in done.stdout + done.stderr


def test_offline_run_is_delivered_by_sync(image, server, tmp_path):
    """`invoke sync` uploads from inside the run's image; the server then has run, tag, rows."""
    options = ["--gpus", "0", "--output", tmp_path / "runs", "--name", "later"]
    invoke("train", "tabular", *options, "--", "--epochs", "2")
    run = record.read(tmp_path / "runs" / "later")

    done = invoke(
        "sync", tmp_path / "runs" / "later", "--network", "host",
        WANDB_BASE_URL=server.url, WANDB_API_KEY=KEY,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
    (found,) = server.store.runs.values()
    assert run.wandb[0].id == found.name
    assert run.image.digest in found.tags
    assert found.history()
    assert KEY not in done.stdout + done.stderr


def test_sync_without_a_key_says_so(image, tmp_path):
    """Exit code 79, before any container starts."""
    options = ["--gpus", "0", "--output", tmp_path, "--name", "unsynced"]
    invoke("train", HERE / "script" / "probe.py", *options, "--", "--wandb", "x")

    done = invoke("sync", tmp_path / "unsynced")

    assert done.returncode == 79
    assert "WANDB_API_KEY" in done.stderr


def test_unreachable_wandb_does_not_stop_a_training(image, tmp_path):
    """The run goes on offline and says so; the training's exit code is 0."""
    options = ["--gpus", "0", "--output", tmp_path, "--name", "secrets-alone", "--network", "none"]

    done = invoke("train", "tabular", *options, "--", "--epochs", "1", WANDB_API_KEY=KEY)

    run = record.read(tmp_path / "secrets-alone")
    assert done.returncode == 0, done.stderr
    assert run.wandb[0].mode == "offline"
    assert "can't be reached" in done.stderr
