"""A training that is asked to stop leaves a checkpoint, and goes on from it."""

import os
import signal
import subprocess
import sys
import time

import pytest
from resuming import EVERY_EPOCH, command, fork, log, outcome, part, settings


def test_sigterm_leaves_a_checkpoint_and_exits_with_75(tmp_path):
    """At the next batch, without a traceback; the next start goes on to the same bits."""
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    jobs = [(whole, ["workers"]), (stopped, ["workers", "--signal", 6]), (stopped, ["workers"])]

    assert fork(jobs, EVERY_EPOCH) == [0, 75, 0], log(stopped)
    assert "SIGTERM: writing a checkpoint at the next batch" in log(stopped)
    assert "resuming from checkpoint 000-00001-0000002" in log(stopped)
    assert "Traceback" not in log(stopped)
    assert part(stopped, "preempted")["checkpoint"] == "000-00001-0000002"
    assert outcome(stopped) == outcome(whole)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_launcher_passes_the_signal_on_and_exits_with_75(folder, number):
    """The ranks agree on the batch; all of them leave."""
    options = ["distributed", "--epochs", "400"]
    process = subprocess.Popen(
        command(*options, procs=2),
        cwd=folder,
        env={**os.environ, **settings(folder, EVERY_EPOCH)},
        stderr=subprocess.PIPE,
        text=True,
    )
    # Of the second fit: a signal between two fits ends at once, with the signal's code.
    while not list((folder / "checkpoints").glob("001-*.json")) and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(number)
    errors = process.communicate(timeout=40)[1]

    assert process.returncode == 75, errors
    assert part(folder, "preempted")["checkpoint"]


def test_signal_before_any_fit_ends_at_once(tmp_path):
    """There is nothing to keep: the code is the signal's."""
    code = "import samerun.train.worker, time; print(flush=True); time.sleep(60)"
    environment = {**os.environ, **settings(tmp_path, EVERY_EPOCH)}
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE
    )
    process.stdout.readline()
    process.terminate()

    assert process.wait(20) == -signal.SIGTERM
