"""
SkyPilot's script on a bucket as SkyPilot mounts it: rclone's cached mount, and two machines.

The bucket is a folder here; all else is rclone's own, with SkyPilot's flags.
"""

import os
import shutil
import signal
import subprocess
import time

import pytest

from samerun.core import record
from samerun.host.cloud import sky
from samerun.host.cloud.request import CloudRequest, Location

# `sky.data.mounting_utils.get_mount_cached_cmd` of SkyPilot 0.14.1.
FLAGS = (
    *("--daemon", "--daemon-wait", "10s", "--log-level", "INFO", "--allow-other"),
    *("--vfs-cache-mode", "full", "--dir-cache-time", "10s", "--vfs-cache-poll-interval", "10s"),
    *("--vfs-fast-fingerprint", "--vfs-cache-max-size", "10G", "--vfs-write-back", "1s"),
)
NAME = f"cached-{os.getpid()}"
UPLOADED = "in use 0, to upload 0, uploading 0"


@pytest.fixture(autouse=True)
def nothing_left():
    yield
    line = ["docker", "rm", "--force", f"samerun-{NAME}"]
    subprocess.run(line, check=False, capture_output=True)


@pytest.fixture
def mount(tmp_path):
    """What mounts the bucket on a machine of that name, with a cache of its own."""
    if not all(map(shutil.which, ("rclone", "fusermount3"))) or not os.path.exists("/dev/fuse"):
        pytest.skip("mounting a bucket needs rclone and fuse3 (apt-get install rclone fuse3)")
    bucket, made = tmp_path / "bucket", []
    bucket.mkdir()

    def mount(machine):
        place, log = tmp_path / machine, tmp_path / f"{machine}.log"
        place.mkdir()
        own = ["--cache-dir", tmp_path / f"{machine}.cache", "--log-file", log]
        subprocess.run(["rclone", "mount", f":local:{bucket}", place, *own, *FLAGS], check=True)
        made.append(place)
        return place, log

    yield mount
    for place in made:
        subprocess.run(["fusermount3", "-uz", place], check=False, capture_output=True)


def start(asked, output, folder):
    """Start SkyPilot's script; the image is here, and need not be pulled."""
    stub = folder / "docker"
    stub.write_text(f'#!/bin/sh\n[ "$1" = pull ] || exec {shutil.which("docker")} "$@"\n')
    stub.chmod(0o755)
    script = sky.script(asked).replace(sky.OUTPUT, str(output))
    path = {"PATH": f"{folder}:{os.environ['PATH']}"}
    return subprocess.Popen(["bash", "-c", script], env=os.environ | path, start_new_session=True)


def task(image):
    return CloudRequest(
        engine="sky",
        image=image["reference"],
        target="tabular",
        arguments=("--epochs", "15"),
        output=Location(kind="s3", name="runs"),
        name=NAME,
        shm_size="512m",
        offline=True,
    )


def wait_for(what, seconds=300):
    ends = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < ends, "it did not happen in time"
        time.sleep(0.2)


def test_a_machine_in_the_place_of_a_lost_one_goes_on_from_the_bucket(image, mount, tmp_path):
    """The checkpoint of exit code 75 is in the bucket once SkyPilot says that all is uploaded."""
    asked = task(image)
    first, log = mount("first")
    running = start(asked, first, tmp_path)
    wait_for((first / asked.name / ".samerun" / "first_batch.json").exists)
    kill = ["docker", "kill", "--signal=TERM", f"samerun-{asked.name}"]
    subprocess.run(kill, check=True, capture_output=True)

    assert running.wait(300) == 75
    log.write_text("")
    wait_for(lambda: UPLOADED in log.read_text())
    subprocess.run(["fusermount3", "-u", first], check=True)
    shutil.rmtree(tmp_path / "first.cache")

    second, _ = mount("second")
    assert record.read(second / asked.name).outcome.state == "preempted"
    assert start(asked, second, tmp_path).wait(600) == 0
    made = record.read(second / asked.name)

    assert (made.outcome.state, made.outcome.restarts) == ("finished", 1)
    assert [bool(start.get("resumed")) for start in made.starts] == [False, True]


def test_a_cancelled_job_stops_its_container_with_a_checkpoint(image, tmp_path):
    """SkyPilot sends SIGTERM to all that it started; the engine's command passes it on."""
    output = tmp_path / "output"
    output.mkdir()
    running = start(task(image), output, tmp_path)
    wait_for((output / NAME / ".samerun" / "first_batch.json").exists)

    # As `sky.skylet.subprocess_daemon.kill_process_group` does; it kills 30 s later.
    os.killpg(running.pid, signal.SIGTERM)
    running.wait(30)

    def containers():
        line = ["docker", "ps", "--quiet", f"--filter=name=samerun-{NAME}"]
        return subprocess.run(line, check=True, capture_output=True, text=True).stdout

    wait_for(lambda: not containers(), 60)
    assert record.read(output / NAME).outcome.state == "preempted"
