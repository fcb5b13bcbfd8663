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
    cpu, gpus = torch.get_rng_state(), _of_gpus()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        torch.set_rng_state(cpu)
        # Only where it changed: setting it makes cuDNN's recurrent networks draw new dropout masks.
        for gpu, (before, after) in enumerate(zip(gpus, _of_gpus(), strict=False)):
            if not torch.equal(before, after):
                torch.cuda.set_rng_state(before, gpu)


def _of_gpus() -> list[torch.Tensor]:
    """Return the state of each GPU's generator, which lies in the host's memory."""
    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return []
    return torch.cuda.get_rng_state_all()
