"""A process that waits in C for a rank that is gone ends in time, as after any exception."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from sample import sample

from samerun.core import record
from samerun.train import blocked

# A mutex stands for NCCL: the main thread waits for it in C, where no handler of Python's runs.
SCRIPT = """
import ctypes, os, sys, time
from samerun.train import blocked
from samerun.train.checkpoint import stopping
from samerun.train.report import failures

c = ctypes.CDLL(None)
mutex = ctypes.create_string_buffer(64)
blocked.has_nccl = lambda: True
blocked.abort_groups = lambda: c.pthread_mutex_unlock(mutex)
blocked.PATIENCE_S = 0.2
blocked.watch()
with failures.told(), stopping.heard():
    c.pthread_mutex_lock(mutex)
    print("waiting", flush=True)
    c.pthread_mutex_lock(mutex)
    step = "made"  # with wrong gradients
    print(step, flush=True)
"""


@pytest.fixture
def run(tmp_path):
    record.write(tmp_path, sample())
    (tmp_path / ".samerun").mkdir(exist_ok=True)
    return tmp_path


def start(run, **variables):
    job = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "RANK": "0"}
    env = os.environ | {"SAMERUN_RECORD": str(run / "run.json")} | job | variables
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", SCRIPT], env=env, cwd=run, **pipes)
    assert process.stdout.readline() == "waiting\n"
    return process


def test_rank_without_its_peer_ends_before_its_next_step(run):
    """The other process is gone, so the code says so, and W&B could be closed."""
    # More than this process has children, whatever other tests have started.
    waiting = start(run, LOCAL_WORLD_SIZE="999")
    waiting.send_signal(signal.SIGTERM)
    out, errors = waiting.communicate(timeout=20)
    told = json.loads((run / ".samerun" / "failure-0.json").read_text())

    assert (waiting.returncode, out) == (114, "")
    assert "waited for another rank" in errors
    assert (told["code"], told["kind"]) == (114, "communication failed")


def test_rank_whose_peers_live_gets_its_time_for_a_checkpoint(run):
    """The time that the launcher gives, less what W&B needs."""
    waiting = start(run, LOCAL_WORLD_SIZE="1", TORCH_ELASTIC_SHUTDOWN_TIMEOUT="18")
    began = time.monotonic()
    waiting.send_signal(signal.SIGTERM)
    waiting.communicate(timeout=20)

    assert waiting.returncode == 114
    assert 2.5 < time.monotonic() - began < 10


def test_peer_that_reported_its_failure_is_gone(run, monkeypatch):
    monkeypatch.setenv("SAMERUN_RECORD", str(run / "run.json"))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
    (run / ".samerun" / "failure-0.json").write_text("{}")
    before = blocked.peer_is_gone()
    (run / ".samerun" / "failure-1.json").write_text("{}")

    assert (before, blocked.peer_is_gone()) == (False, True)


def test_dead_child_of_the_launcher_counts_as_gone(monkeypatch):
    """Before the launcher has read its exit code it is still there, as a zombie."""
    code = (
        "import os; from samerun.train import blocked; "
        "os.environ['LOCAL_WORLD_SIZE'] = '2'; print(blocked.peer_is_gone())"
    )
    line = [sys.executable, "-c", code]
    launcher = (
        "import subprocess, sys, time\n"
        "peer = subprocess.Popen([sys.executable, '-c', sys.argv[1]])\n"
        "time.sleep(float(sys.argv[2])); subprocess.run([sys.executable, '-c', sys.argv[3]])"
    )
    told = [
        subprocess.run(
            [sys.executable, "-c", launcher, peer, wait, line[2]],
            capture_output=True, text=True, check=True,
        ).stdout.strip()
        for peer, wait in (("import time; time.sleep(3)", "0"), ("pass", "0.5"))
    ]  # fmt: skip

    assert told == ["False", "True"]
