"""
All settings that make a training reproducible.

Source: https://docs.pytorch.org/docs/stable/notes/randomness.html unless stated otherwise.
"""

import os
import random

from samerun.core import contract


def is_fast() -> bool:
    """Whether ``--fast`` turned off the expensive settings."""
    return os.environ.get(contract.ENV_FAST) == "1"


def set_environment() -> None:
    """Set the variables that torch reads on import; a user's own value has precedence."""
    # The order of sets of strings, on which data code that iterates over a set depends.
    os.environ.setdefault("PYTHONHASHSEED", "0")
    if is_fast():
        return
    # cuBLAS needs a fixed workspace to be repeatable (CUDA >= 10.2).
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def seed_everything(seed: int) -> None:
    """
    Seed all generators with the same seed on each rank, and choose deterministic algorithms.

    The seed must be the same on every rank: each rank splits the data when it creates the
    loaders, and ranks with different splits train on each other's validation items.
    """
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    if is_fast():
        # Benchmarks the algorithms and chooses the fastest.
        torch.backends.cudnn.benchmark = True
        return
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    # An operation without a deterministic implementation warns instead of failing.
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Only makes reads of uninitialized memory reproducible, at the cost of filling each tensor.
    torch.utils.deterministic.fill_uninitialized_memory = False
