"""
Process groups are destroyed before the interpreter ends.

gloo's threads may still hold the tensors of the last collective. A thread that drops one
while the interpreter is being torn down aborts the process: exit code 134 after a training
that succeeded (pytorch/pytorch#190489). On several GPUs torch warns of it.
"""

import contextlib
import sys
from collections.abc import Iterator

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


def _destroy() -> None:
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()
