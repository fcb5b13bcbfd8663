"""Runs that are stopped, killed or that fail: the record tells, and nothing stays behind."""

import signal
import subprocess
import time

import pytest
from driving import HERE, command, containers, environment

from samerun.core import record


@pytest.fixture
def started(image, tmp_path):
    """A run that waits; yields its process once the container trains."""
    options = ["--gpus", "0", "--output", tmp_path, "--name", "waits"]
    process = subprocess.Popen(
        command("train", HERE / "script" / "sleeper.py", *options),
        cwd=HERE.parents[1],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    for line in process.stdout:
        if "WAITING" in line:
            break
    yield process
    process.kill()


def test_interrupt_stops_the_container_within_seconds(started, client, tmp_path):
    """Ctrl-C: the record says stopped and by what; the command has the container's exit code."""
    began = time.monotonic()
    started.send_signal(signal.SIGINT)
    code = started.wait(timeout=60)

    run = record.read(tmp_path / "waits")
    assert time.monotonic() - began < 15
    assert (run.outcome.state, run.outcome.reason) == ("stopped", "SIGINT")
    assert code == run.outcome.exit_code == 143
    assert containers(client, "waits") == []


def test_record_is_complete_after_a_kill(started, client, tmp_path):
    """SIGKILL to the container: image, code, hardware, environment and the W&B run are there."""
    (container,) = containers(client, "waits")
    container.kill()
    code = started.wait(timeout=60)

    run = record.read(tmp_path / "waits")
    assert 137 == code == run.outcome.exit_code
    assert (run.outcome.state, run.outcome.reason) == ("killed", "SIGKILL")
    assert run.outcome.ended
    assert run.outcome.duration_s > 0
    assert run.environment["torch"]
    assert len(run.wandb) == 1
    assert run.arguments[:2] == ("docker", "run")


def test_termination_of_the_host_side_stops_the_run(started, client, tmp_path):
    """CI cancels with SIGTERM; no container is orphaned."""
    started.send_signal(signal.SIGTERM)
    started.wait(timeout=60)

    assert (
        record.read(tmp_path / "waits").outcome.state,
        record.read(tmp_path / "waits").outcome.reason,
    ) == ("stopped", "SIGTERM")
    assert containers(client, "waits") == []
