"""The states of all random generators that a training uses."""

import random
from typing import Any

import numpy as np
import torch


def capture(loaders: Any) -> dict[str, Any]:
    """Return the states of Python, NumPy, torch, all GPUs, and each fastai loader."""
    kind, keys, position, has_gauss, gauss = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": [kind, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, gauss],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if _has_cuda() else None,
        "other_gpus": [torch.cuda.get_rng_state(gpu) for gpu in _other_gpus()],
        "loaders": [loader.rng.getstate() for loader in own_loaders(loaders)],
    }


def restore(state: dict[str, Any], loaders: Any = None) -> None:
    """Restore all generators; those of the loaders only if *loaders* are given."""
    kind, keys, position, has_gauss, gauss = state["numpy"]
    random.setstate(_python_state(state["python"]))
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, gauss))
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] is not None and _has_cuda():
        torch.cuda.set_rng_state(state["cuda"].cpu())
        for gpu, other in zip(_other_gpus(), state.get("other_gpus", ()), strict=False):
            torch.cuda.set_rng_state(other.cpu(), gpu)
    if loaders is None:
        return
    for loader, generator in zip(own_loaders(loaders), state["loaders"], strict=False):
        loader.rng.setstate(_python_state(generator))


def own_loaders(loaders: Any) -> list[Any]:
    """Return the fastai loaders that have their own generator, unwrapped."""
    return [loader for loader in map(unwrapped, loaders.loaders) if hasattr(loader, "rng")]


def unwrapped(loader: Any) -> Any:
    """Return the loader inside a ``DistributedDL``; its generator determines the order."""
    while type(loader).__name__ == "DistributedDL":
        loader = loader.dl
    return loader


def _python_state(state: Any) -> Any:
    version, numbers, gauss = state
    return version, tuple(numbers), gauss


def _has_cuda() -> bool:
    return torch.cuda.is_available() and torch.cuda.is_initialized()  # type: ignore[no-untyped-call]


def _other_gpus() -> list[int]:
    """Return the GPUs besides this process's own, on which e.g. ``DataParallel`` also draws."""
    if not _has_cuda():
        return []
    own = torch.cuda.current_device()
    return [gpu for gpu in range(torch.cuda.device_count()) if gpu != own]
