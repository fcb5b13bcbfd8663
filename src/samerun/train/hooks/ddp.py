"""
Repairs of fastai's distributed training, needed on the CPU and for seeded workers.

In fastai 2.8.12, ``DistributedDL._broadcast`` calls ``.cuda()`` for every backend, and the
wrapped loader's worker initialization is never called, so the workers of a distributed loader
are not seeded.
"""

import functools
from typing import Any


def install(distributed: Any) -> None:
    """Repair ``DistributedDL`` of the module ``fastai.distributed``."""
    distributed.DistributedDL._broadcast = _broadcast
    distributed.DistributedDL.wif = lambda self: self.dl.wif()
    distributed.setup_distrib = _setup(distributed.setup_distrib)


def _setup(original: Any) -> Any:
    """Let ``distrib_ctx(in_notebook=True)`` work without a GPU: fastai asks for NCCL always."""

    @functools.wraps(original)
    def setup_distrib(gpu: Any = None) -> Any:
        import torch
        from fastai.torch_core import num_distrib

        if gpu is None or torch.cuda.is_available():
            return original(gpu)
        if num_distrib() > 0:
            torch.distributed.init_process_group(backend="gloo", init_method="env://")
        return int(gpu)

    return setup_distrib


def _broadcast(self: Any, indices: Any, rank: int) -> list[int]:
    """Broadcast *indices* (int64, one dimension) from *rank*, on the backend's device."""
    import torch

    tensor = torch.as_tensor(indices, dtype=torch.int64)
    if torch.distributed.get_backend() == "nccl":
        tensor = tensor.cuda()
    torch.distributed.broadcast(tensor, rank)
    return tensor.cpu().tolist()
