"""
The processes of one training decide as one.

A group of gloo's beside that of the training, because these are numbers of the CPU: with
NCCL alone each decision would wait for the GPU.
"""

from datetime import timedelta
from typing import Any

import torch
from torch import distributed

# A rank may compile, or validate, for as long as that.
TIMEOUT = timedelta(hours=2)


class SingleProcess:
    """One process: nobody to ask."""

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
    """Several processes on one model; made by all of them at the same moment."""

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
        """Return rank 0's value: its disk is the one that has checkpoints."""
        holder = [value]
        distributed.broadcast_object_list(holder, src=0, group=self._group)
        return holder[0]


_together: list[ProcessGroup] = []


def ranks(learn: Any) -> SingleProcess:
    """Return who trains *learn*: one group for all fits of the process."""
    if not hasattr(learn, "distributed_trainer") or not distributed.is_initialized():
        return SingleProcess()
    if not _together:
        _together.append(ProcessGroup())
    return _together[0]
