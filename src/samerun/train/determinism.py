"""
Every switch that makes a training come out the same, each with its source.

https://docs.pytorch.org/docs/stable/notes/randomness.html unless stated otherwise.
"""

import os
import random

from samerun.core import contract


def is_fast() -> bool:
    """Whether ``--fast`` turned the costly switches off."""
    return os.environ.get(contract.ENV_FAST) == "1"


def set_environment() -> None:
    """Set what must stand before torch is loaded; a user's own value wins."""
    # Order of sets of strings; data code that lists a set depends on it.
    os.environ.setdefault("PYTHONHASHSEED", "0")
    if is_fast():
        return
    # cuBLAS needs a fixed workspace to be repeatable (CUDA >= 10.2).
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def seed_everything(seed: int) -> None:
    """
    Seed all generators alike on each rank, and choose deterministic algorithms.

    The same seed on every rank matters: fastai splits the data where the loaders are
    made, and ranks that split differently train on each other's validation items.
    """
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    if is_fast():
        # Tries algorithms and takes the fastest of the moment.
        torch.backends.cudnn.benchmark = True
        return
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    # An operation without a deterministic form warns instead of ending the training.
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Only needed to make reads of uninitialized memory repeatable; costs a fill per tensor.
    torch.utils.deterministic.fill_uninitialized_memory = False
