"""
Process groups are destroyed before the interpreter ends.

gloo's threads may still hold the tensors of the last collective. A thread that drops one
while the interpreter is being torn down aborts the process: exit code 134 after a training
that succeeded (pytorch/pytorch#190489). On several GPUs torch warns of it.
"""

import atexit
import contextlib
import os
import sys
import traceback
from collections.abc import Iterator

from samerun.train import blocked
from samerun.train.checkpoint.stopping import Preempted
from samerun.train.report.quiet import quietly


@contextlib.contextmanager
def destroyed() -> Iterator[None]:
    """
    Destroy all process groups where the training inside ends well, or is stopped on all ranks.

    Not after a failure: the other ranks may wait in a collective, and so would this one.
    """
    try:
        yield
    except Preempted:
        quietly("destroy the process groups", _destroy)
        raise
    except SystemExit as end:
        if not end.code:
            quietly("destroy the process groups", _destroy)
        raise
    quietly("destroy the process groups", _destroy)


@contextlib.contextmanager
def left() -> Iterator[None]:
    """
    End the process after a failure inside if its end could wait for the other ranks.

    NCCL's destructors can, for ever, and then nobody learns that this rank failed.
    """
    try:
        yield
    except SystemExit as end:
        if isinstance(end.code, int) and end.code and blocked.has_nccl():
            _leave(end.code)
        raise
    except Exception:
        if blocked.has_nccl():
            traceback.print_exc()
            _leave(1)
        raise


def _leave(code: int) -> None:
    """End the process; what Python runs at its end runs before, so W&B closes its run."""
    wandb = sys.modules.get("wandb")
    if getattr(wandb, "run", None) is not None:
        quietly("close the W&B run", wandb.finish, code)  # type: ignore[union-attr]
    quietly("run what is registered for the end", atexit._run_exitfuncs)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(code)


def _destroy() -> None:
    distributed = blocked.with_groups()
    if distributed is not None:
        distributed.destroy_process_group()
