"""
What fastai's distributed training needs on the CPU, and two repairs for GPUs too.

Read in fastai 2.8.12: ``DistributedDL._broadcast`` calls ``.cuda()`` whatever the
backend, and the wrapped loader never gets its worker initialization, so workers of a
distributed loader are not seeded.
"""

from typing import Any


def install(distributed: Any) -> None:
    """Repair ``DistributedDL`` of the module ``fastai.distributed``."""
    distributed.DistributedDL._broadcast = _broadcast
    distributed.DistributedDL.wif = lambda self: self.dl.wif()


def _broadcast(self: Any, indices: Any, rank: int) -> list[int]:
    """Send *indices* (int64, one dimension) from *rank* to all; the backend says where."""
    import torch

    tensor = torch.as_tensor(indices, dtype=torch.int64)
    if torch.distributed.get_backend() == "nccl":
        tensor = tensor.cuda()
    torch.distributed.broadcast(tensor, rank)
    return tensor.cpu().tolist()
