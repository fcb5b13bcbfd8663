"""Describe the software and hardware that the training uses, for the record."""

import os
import platform
from collections.abc import Iterable, Sequence
from typing import Any

from samerun.core import result_variables, user_variables


def describe(used: Iterable[int]) -> dict[str, Any]:
    """Return versions, threads, CPU capability and the GPUs *used*, by torch, as plain values."""
    import torch

    indices = list(used)
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "device": "cuda" if torch.cuda.is_available() else "cpu",
        "nccl": _nccl() if indices else None,
        "gpus": [_gpu(i) for i in indices],
        "peer_access": _peers(indices),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "interop_threads": torch.get_num_interop_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "variables": variables(),
    }


def variables() -> dict[str, str]:
    """Return the variables on which results depend, and settings of NCCL, gloo and CUDA."""
    return {name: os.environ[name] for name in sorted(os.environ) if is_recorded(name)}


def is_recorded(name: str) -> bool:
    """Whether the variable *name* is in the record wherever it was set."""
    return name in result_variables.PATTERNS or user_variables.is_forwarded(name)


def _gpu(index: int) -> dict[str, Any]:
    import torch

    properties = torch.cuda.get_device_properties(index)
    # Older releases of torch have no UUID.
    uuid = getattr(properties, "uuid", None)
    return {
        "name": properties.name,
        "uuid": str(uuid) if uuid else None,
        "is_slice": " MIG " in properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "memory_bytes": properties.total_memory,
    }


def _nccl() -> str | None:
    """Return NCCL's version; None in a build without it."""
    import torch

    if not torch.distributed.is_available() or not torch.distributed.is_nccl_available():
        return None
    return ".".join(map(str, torch.cuda.nccl.version()))


def _peers(indices: Sequence[int]) -> list[list[int]]:
    """Return the pairs of GPUs that read each other's memory: NCCL's order of additions follows."""
    import torch

    def can(one: int, other: int) -> bool:
        return torch.cuda.can_device_access_peer(one, other)

    return [[a, b] for a in indices for b in indices if a < b and can(a, b) and can(b, a)]
