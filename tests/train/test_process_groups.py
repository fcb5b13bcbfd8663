"""Process groups are gone before the interpreter is."""

import os
import subprocess
import sys

import pytest
from torch import distributed

from samerun.train import process_groups
from samerun.train.checkpoint.stopping import Preempted

SCRIPT = """
import atexit
from torch import distributed

atexit.register(lambda: print("left", distributed.is_initialized()))
distributed.init_process_group("gloo", rank=0, world_size=1, store=distributed.HashStore())
print("made", distributed.is_initialized())
"""


@pytest.fixture
def group():
    """A process group of this process alone."""
    distributed.init_process_group("gloo", rank=0, world_size=1, store=distributed.HashStore())
    yield
    if distributed.is_initialized():
        distributed.destroy_process_group()


def test_no_group_is_left_at_the_interpreters_end(tmp_path):
    """
    Else gloo's threads abort one training of many after its success, with 134.

    They drop the last collective's tensors while the interpreter is torn down: with these
    threads slowed down (SCHED_IDLE) that was every run.
    """
    (tmp_path / "train.py").write_text(SCRIPT)
    line = [sys.executable, "-m", "samerun.train.worker", "42", str(tmp_path / "train.py")]

    done = subprocess.run(
        line, cwd=tmp_path, env=os.environ, capture_output=True, text=True, check=False
    )

    assert done.stdout.splitlines() == ["made True", "left False"], done.stderr


@pytest.mark.parametrize(
    ("end", "left"),
    [
        (SystemExit(0), False),
        (Preempted(), False),
        (SystemExit(3), True),
        (ValueError("a bug"), True),
    ],
)
def test_groups_are_destroyed_after_a_good_end_only(group, end, left):
    """Where one rank fails, others may wait in a collective: destroying could wait with them."""
    with pytest.raises(type(end)), process_groups.destroyed():
        raise end

    assert distributed.is_initialized() is left


@pytest.mark.parametrize(("failing", "code"), [("raise KeyError('x')", 1), ("sys.exit(114)", 114)])
def test_failed_rank_of_nccl_ends_whatever_its_destructors_wait_for(tmp_path, failing, code):
    """Python's own end runs first, then the process is gone at once."""
    script = f"""
import atexit, sys, threading
from samerun.train import blocked, process_groups
blocked.has_nccl = lambda: True
threading.Thread(target=threading.Event().wait).start()  # waits for ever
atexit.register(print, "closed")
with process_groups.left():
    {failing}
"""
    line = [sys.executable, "-c", script]
    done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=20)

    assert (done.returncode, done.stdout) == (code, "closed\n"), done.stderr
    assert ("KeyError: 'x'" in done.stderr) == (code == 1)
