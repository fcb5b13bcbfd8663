"""Which process of a job logs what."""

from __future__ import annotations

import contextlib
import os
from typing import Any

import torch
import wandb

from samerun.callback.fits import Fit


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
    """Return the number of processes that train together."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_world_size()
    return 1


def current_run(caller: str, given: Any = None) -> Any | None:
    """
    Return the run that this process logs to, or None if it stays silent.

    Silent are: disabled runs, and processes of a distributed job that have no run.

    Args:
        caller: The name of the caller, for the error.
        given: The run to log to; None: ``wandb.run``.

    Raises:
        NoRun: The first process has no run.
    """
    run = wandb.run if given is None else given
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


class Agreement:
    """
    Let the processes of a job agree on something, where some may not take part.

    A collective would wait for those for ever. Here each process that takes part leaves a
    note as a fit begins; where the fit's own collectives have passed, all notes are there.

    Args:
        fit: The fit; None: there is nothing to agree on.
    """

    def __init__(self, fit: Fit | None) -> None:
        self.alone = world_size() == 1
        self._store: Any = None
        self._key = f"samerun/fit/{fit.number if fit else 0}"
        if fit is None or self.alone:
            return
        with contextlib.suppress(Exception):  # a backend without a store
            store = torch.distributed.distributed_c10d._get_default_store()
            store.set(f"{self._key}/{rank()}", "here")
            self._store = store
            # Who waits must not wait for a fit that was broken off.
            fit.at_end(self._give_up)

    def on(self, proposal: bool) -> bool:
        """Return what the first process proposes, if all take part; else False."""
        if self._store is None:
            return False
        if rank() == 0:
            return self._decide(yes=proposal and self._all_are_here())
        if not self._store.check([f"{self._key}/0"]):
            return False
        return bool(self._store.get(f"{self._key}/decided") == b"yes")

    def _all_are_here(self) -> bool:
        return bool(self._store.check([f"{self._key}/{r}" for r in range(world_size())]))

    def _give_up(self) -> None:
        self._decide(yes=False)

    def _decide(self, *, yes: bool) -> bool:
        store, self._store = self._store, None
        if store is not None and rank() == 0:
            with contextlib.suppress(Exception):  # the job has ended
                store.set(f"{self._key}/decided", "yes" if yes else "no")
                return yes
        return False
