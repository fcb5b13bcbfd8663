"""Leave the random state of training as it was."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

import numpy as np
import torch


@contextlib.contextmanager
def untouched_random_state() -> Iterator[None]:
    """
    Restore the random generators of Python, NumPy and PyTorch, all devices, after the block.

    Building a fastai ``DataLoader`` or walking over one draws from Python's generator, so
    showing predictions would otherwise change the order of the batches that follow.
    """
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - fastai uses it.
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()  # type: ignore[no-untyped-call]
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
