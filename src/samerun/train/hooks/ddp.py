"""
Repairs of fastai's distributed training, needed on the CPU and for seeded workers.

In fastai 2.8.12, ``DistributedDL._broadcast`` calls ``.cuda()`` for every backend, and the
wrapped loader's worker initialization is never called, so the workers of a distributed loader
are not seeded.
"""

from typing import Any


def install(distributed: Any) -> None:
    """Repair ``DistributedDL`` of the module ``fastai.distributed``."""
    distributed.DistributedDL._broadcast = _broadcast
    distributed.DistributedDL.wif = lambda self: self.dl.wif()


def _broadcast(self: Any, indices: Any, rank: int) -> list[int]:
    """Broadcast *indices* (int64, one dimension) from *rank*, on the backend's device."""
    import torch

    tensor = torch.as_tensor(indices, dtype=torch.int64)
    if torch.distributed.get_backend() == "nccl":
        tensor = tensor.cuda()
    torch.distributed.broadcast(tensor, rank)
    return tensor.cpu().tolist()
