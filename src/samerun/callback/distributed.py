"""Which process of a job logs what."""

from __future__ import annotations

import os
from typing import Any

import torch
import wandb


class NoRun(ValueError):
    """Training began without a W&B run to log to."""

    def __init__(self, caller: str) -> None:
        super().__init__(
            f"There is no W&B run for {caller} to log to.\n"
            'Call wandb.init(project="...") before learn.fit(), '
            "or set WANDB_MODE=disabled to train without W&B."
        )


def rank() -> int:
    """Return the rank of this process, 0 in a job of one process."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank()
    return int(os.environ.get("RANK") or 0)


def world_size() -> int:
    """Return how many processes train together."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_world_size()
    return 1


def current_run(caller: str) -> Any | None:
    """
    Return the run that this process logs to, or None if it stays silent.

    Silent are: disabled runs, and processes of a distributed job that have no run of their own.

    Raises:
        NoRun: The first process has no run.
    """
    run = wandb.run
    if run is not None:
        return None if getattr(run, "disabled", False) else run
    if rank() > 0 or os.environ.get("WANDB_MODE") == "disabled":
        return None
    raise NoRun(caller)


def key_prefix(run: Any) -> str:
    """Return what keeps the metrics of this process apart, if all processes share one run."""
    shared = bool(getattr(run.settings, "_shared", False))
    return f"rank{rank()}/" if shared and rank() > 0 else ""


def unwrapped(dl: Any) -> Any:
    """Return the data loader inside fastai's ``DistributedDL``, whose iteration is collective."""
    while type(dl).__name__ == "DistributedDL":
        dl = dl.dl
    return dl


def bare(model: torch.nn.Module) -> torch.nn.Module:
    """Return the model inside (Distributed)DataParallel, whose forward is collective."""
    parallel = (torch.nn.parallel.DistributedDataParallel, torch.nn.DataParallel)
    return model.module if isinstance(model, parallel) else model
