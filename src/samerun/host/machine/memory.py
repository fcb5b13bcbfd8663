"""The memory of a run: its limit, and the size of its shared memory."""

import re

from samerun.core.hardware import memory_bytes
from samerun.core.record import Topology

# fastai's loaders have as many workers as there are cores, and at most this many.
MOST_WORKERS = 16
# Measured: two batches ahead of 64 images of 460 x 460 pixels are 84 MB for each worker. Three
# times as much leaves room for larger ones; NCCL needs a few MB.
WORKER_MB = 256
LEAST_MB = 2048


def memory_limit(size: str | None) -> str | None:
    """
    Return a run's limit in Docker's syntax; None for no limit.

    The default is 90 % of the machine's memory: a run that exceeds it is killed itself. With
    no limit, the kernel would kill the largest process of the whole machine.
    """
    if size is None:
        return f"{memory_bytes() * 9 // 10 // 2**20}m"
    return None if size.rstrip("bkmgBKMG").strip("0") == "" else size


def shared_memory(procs: int, cores: int = MOST_WORKERS) -> str:
    """
    Return the size of shared memory for *procs* processes with loaders of up to *cores* workers.

    It is a limit, not an allocation: pages count, against the run's memory, when they are used.
    If it is too small, loaders die of SIGBUS.
    """
    each = max(LEAST_MB, min(cores, MOST_WORKERS) * WORKER_MB)
    return f"{procs * each // 1024}g"


def shared_on_one_machine(topology: Topology) -> str:
    """Return the shared memory of all nodes of a run together, for a rerun on one machine."""
    match = re.fullmatch(r"([0-9]{1,15})([bkmgBKMG]?)", topology.shm_size)
    if match is None or topology.nodes == 1:
        return topology.shm_size
    return f"{int(match[1]) * topology.nodes}{match[2]}"
