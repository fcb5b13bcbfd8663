"""
Common decisions of the processes of one training.

They use a separate gloo group, because the numbers are on the CPU: with NCCL, each decision
would wait for the GPU.
"""

from datetime import timedelta
from typing import Any

import torch
from torch import distributed

# A rank may compile or validate for that long while the others wait.
TIMEOUT = timedelta(hours=2)


class SingleProcess:
    """A single process, which decides alone."""

    rank, size = 0, 1

    def most(self, *numbers: int) -> tuple[int, ...]:
        """Return each number's maximum over all ranks."""
        return numbers

    def gather(self, value: Any) -> list[Any]:
        """Return every rank's value, by rank."""
        return [value]

    def first(self, value: Any) -> Any:
        """Return rank 0's value."""
        return value


class ProcessGroup(SingleProcess):
    """Several processes with one model; all of them must create it at the same point."""

    def __init__(self) -> None:
        self.rank, self.size = distributed.get_rank(), distributed.get_world_size()
        self._group = distributed.new_group(backend="gloo", timeout=TIMEOUT)

    def most(self, *numbers: int) -> tuple[int, ...]:
        """Return each number's maximum over all ranks."""
        tensor = torch.tensor(numbers, dtype=torch.int64)
        distributed.all_reduce(tensor, distributed.ReduceOp.MAX, group=self._group)
        return tuple(tensor.tolist())

    def gather(self, value: Any) -> list[Any]:
        """Return every rank's value, by rank."""
        values: list[Any] = [None] * self.size
        distributed.all_gather_object(values, value, group=self._group)
        return values

    def first(self, value: Any) -> Any:
        """Return rank 0's value, because the checkpoints are on its disk."""
        holder = [value]
        distributed.broadcast_object_list(holder, src=0, group=self._group)
        return holder[0]


_groups: list[ProcessGroup] = []


def ranks(learn: Any) -> SingleProcess:
    """Return the processes that train *learn*; all fits of a process share one group."""
    if not hasattr(learn, "distributed_trainer") or not distributed.is_initialized():
        return SingleProcess()
    if not _groups:
        _groups.append(ProcessGroup())
    return _groups[0]
