"""Describe the software and hardware that the training uses, for the record."""

import os
import platform
from collections.abc import Iterable
from typing import Any

from samerun.core import result_variables, user_variables


def describe(used: Iterable[int]) -> dict[str, Any]:
    """Return versions, threads, CPU capability and the GPUs *used*, by torch, as plain values."""
    import torch

    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "device": "cuda" if torch.cuda.is_available() else "cpu",
        "gpus": [_gpu(i) for i in used],
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
    return {
        "name": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "memory_bytes": properties.total_memory,
    }
