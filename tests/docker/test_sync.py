"""`invoke sync`: what W&B's server lacks is delivered, and the server is asked whether it came."""

import json
import signal
import subprocess
import sys
import time

import pytest
from driving import ROOT, command, environment, invoke

from samerun.core import record
from samerun.host.machine import user
from samerun.host.tracking import keys

sys.path.insert(0, str(ROOT / "tests" / "standin"))
import wbserver
from wbserver import Fault

KEY = "5ec2e7" * 7


@pytest.fixture
def server(tmp_path):
    """A W&B stand-in on loopback that takes our key and no other."""
    with wbserver.make_server(tmp_path / "server", entity="ent", api_keys=[KEY]) as server:
        yield server


def online(server):
    return {
        "WANDB_BASE_URL": server.url,
        "WANDB_API_KEY": KEY,
    }


@pytest.fixture(scope="module")
def original(image, tmp_path_factory):
    """An offline run with rows and artifacts."""
    output = tmp_path_factory.mktemp("offline")
    options = ["--gpus", "0", "--output", output, "--name", "hands-later", "--checkpoints", "off"]
    done = invoke("train", "tabular", *options, "--", "--epochs", "2")
    assert done.returncode == 0, done.stderr
    return output / "hands-later"


@pytest.fixture
def offline(original, tmp_path):
    """A copy of that run."""
    subprocess.run(["cp", "-a", original, tmp_path], check=True)
    return tmp_path / "hands-later"


def by_hand(image, folder):
    """Train by `docker run` alone, told no image, as whoever owns *folder*."""
    uid, gid = user.of_container()
    folder.mkdir()
    user.give(folder, (uid, gid))
    flags = [f"--user={uid}:{gid}", "--network=none", "--shm-size=512m"]
    mount = f"--mount=type=bind,source={folder},target=/output"
    line = ["docker", "run", "--rm", *flags, mount, image["reference"], "tabular", "--epochs", "1"]
    subprocess.run(line, check=True, capture_output=True)


def sync(folder, server, *options):
    return invoke("sync", folder, "--network", "host", *options, **online(server))


def test_a_run_by_hand_is_delivered_though_its_image_is_unknown(image, server, tmp_path):
    """Its rows and artifacts are read and sent by this checkout's image."""
    by_hand(image, tmp_path / "hand")

    done = sync(tmp_path / "hand", server)

    assert record.read(tmp_path / "hand").image.digest == ""
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(rows(server, tmp_path / "hand")) > 0
    assert invoke("runs", "--output", tmp_path).stdout.split()[-1] == "yes"


def rows(server, folder):
    """Return the steps that the server has of the run in *folder*."""
    (entry,) = record.read(folder).wandb
    runs = [run for run in server.store.runs.values() if run.name == entry.id]
    return [row["_step"] for row in runs[0].history()] if runs else []


def syncs(server):
    """Return how often rows were sent."""
    return sum("file_stream" in entry["path"] for entry in server.store.log)


def test_repeated_sync_sends_nothing_twice(offline, server):
    """All rows and artifacts arrive; a second sync asks the server and sends nothing."""
    assert "no" in invoke("runs", "--output", offline.parent).stdout.splitlines()[1].split()[-1]
    done = sync(offline, server)
    first = rows(server, offline)
    sent = syncs(server)
    again = sync(offline, server)
    noted = json.loads((offline / "sync.json").read_text())
    listed = invoke("runs", "--output", offline.parent, "--json")

    run = record.read(offline)
    (found,) = server.store.runs.values()
    assert done.returncode == 0, done.stdout + done.stderr
    assert run.wandb[0].id == found.name
    assert run.image.digest in found.tags
    assert KEY not in done.stdout + done.stderr
    assert f"{len(first)} of {len(first)} rows" in done.stdout
    assert len(first) == len(set(first)) > 20
    assert noted["runs"][0]["artifacts"] >= 3
    assert again.returncode == 0, again.stderr
    assert rows(server, offline) == first
    assert syncs(server) == sent
    assert json.loads(listed.stdout)[0]["synced"] == "yes"


def test_sync_without_a_key_says_so(offline):
    """Exit code 79, before any container starts."""
    done = invoke("sync", offline)

    assert done.returncode == 79
    assert "WANDB_API_KEY" in done.stderr


def test_lost_artifact_is_told_though_the_client_says_nothing(offline, server):
    """wandb ends with 0 where an artifact's files are gone; we end with 97 and its name."""
    staging = [p for p in offline.rglob("staging") if p.is_dir()]
    assert staging
    for folder in staging:
        for file in folder.rglob("*"):
            if file.is_file():
                file.unlink()

    done = sync(offline, server)

    assert done.returncode == 97, done.stdout + done.stderr
    assert "missing: run-" in done.stderr
    assert json.loads((offline / "sync.json").read_text())["complete"] is False


def interrupted(offline, server, number):
    """Start a sync, and send it signal *number* while rows are on their way."""
    server.store.faults = [Fault(path="file_stream", delay=1.0, times=20, status=200)]
    sent = syncs(server)
    process = subprocess.Popen(
        command("sync", offline, "--network", "host"),
        cwd=ROOT,
        env=environment(**online(server)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    until = time.monotonic() + 60
    while syncs(server) == sent and time.monotonic() < until:
        time.sleep(0.1)
    process.send_signal(number)
    server.store.faults.clear()
    return process.wait(30)


def left(client, offline):
    """Return what a sync of *offline* has left: its containers, and the key files."""
    label = f"io.samerun.run={offline.name}-sync-{offline.stat().st_ino}"
    files = [p for p in keys.TMPFS.glob("samerun-*/netrc") if KEY in p.read_text()]
    return client.containers.list(all=True, filters={"label": label}), files


def test_killed_sync_leaves_no_key_and_is_repeated_without_doubled_rows(client, offline, server):
    """After SIGTERM by itself; after SIGKILL by the next command, which stops the upload too."""
    assert interrupted(offline, server, signal.SIGTERM) == 143
    assert left(client, offline) == ([], [])
    assert interrupted(offline, server, signal.SIGKILL) == -signal.SIGKILL
    assert left(client, offline) != ([], [])

    listed = invoke("runs", "--output", offline.parent)

    assert listed.returncode == 0, listed.stderr
    assert left(client, offline) == ([], [])
    done = sync(offline, server)
    assert done.returncode == 0, done.stdout + done.stderr
    found = rows(server, offline)
    assert len(found) == len(set(found)) > 20


@pytest.mark.alone
def test_clean_keeps_what_the_server_lacks(offline, server):
    """An unsynced run stays; synced, it goes. Another run's folder is left alone."""
    kept = invoke("clean", "--output", offline.parent, "--older-than", "0m", "--yes")
    assert "invoke sync" in kept.stdout
    assert offline.is_dir()

    everything = invoke(
        "sync", "--all", "--output", offline.parent, "--network", "host", **online(server)
    )
    dry = invoke("clean", "--output", offline.parent, "--older-than", "0m", "--dry")
    assert everything.returncode == 0, everything.stderr
    assert offline.is_dir()
    assert f"remove  {offline}" in dry.stdout

    gone = invoke("clean", "--output", offline.parent, "--older-than", "0m", "--yes")
    assert gone.returncode == 0, gone.stderr
    assert not offline.exists()


def test_unreachable_server_is_no_success(offline):
    """97 and the address; nothing is noted as delivered."""
    surroundings = {"WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": KEY}
    done = invoke("sync", offline, "--network", "host", **surroundings)

    assert done.returncode == 97
    assert "127.0.0.1:9" in done.stderr
    assert not (offline / "sync.json").exists()


def test_online_run_that_lost_rows_is_made_whole(image, server, tmp_path):
    """One 401, and wandb sends no more rows and ends with 0; sync finds and delivers them."""
    server.store.faults = [Fault(path="file_stream", status=401)]
    options = ["--gpus", "0", "--output", tmp_path / "runs", "--name", "hands-lost"]
    options += ["--network", "host", "--checkpoints", "off"]
    done = invoke("train", "tabular", *options, "--", "--epochs", "2", **online(server))
    folder = tmp_path / "runs" / "hands-lost"
    before = rows(server, folder)
    listed = json.loads(invoke("runs", "--output", folder.parent, "--json").stdout)

    delivered = sync(folder, server)

    found = rows(server, folder)
    assert done.returncode == 0, done.stderr
    assert listed[0]["synced"] == "unverified"
    assert delivered.returncode == 0, delivered.stdout + delivered.stderr
    assert len(before) < len(found) == len(set(found))
    assert f"{len(found)} of {len(found)} rows" in delivered.stdout
