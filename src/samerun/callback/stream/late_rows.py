"""Keep rows that other code logs with a step that W&B has already passed."""

from __future__ import annotations

import functools
from typing import Any

import wandb


def keep_late_rows(run: Any) -> None:
    """
    Make ``run.log(..., step=n)`` keep its row where wandb would drop it.

    The callback's rows move the step of the run on, so that code which counts epochs, say,
    as ``step=`` comes too late; wandb then drops the row with a warning (fastai issue 3066,
    wandb issue 1597). Such a row is logged at the current step instead, and the step it was
    meant for is in it as ``requested_step``. All other calls go through unchanged.
    """
    if isinstance(getattr(run, "log", None), _KeepingLog) or getattr(
        run.settings, "_shared", False
    ):
        return
    original = run.log
    # wandb itself takes wandb.log back when the run is finished.
    run.log = _KeepingLog(run, original)
    if wandb.log == original:
        wandb.log = run.log
    elif getattr(wandb.log, "__self__", None) is run:
        wandb.log = _KeepingLog(run, wandb.log)


class _KeepingLog:
    """Stand in for the ``log`` method of one run."""

    def __init__(self, run: Any, log: Any) -> None:
        self._run, self._log = run, log
        functools.update_wrapper(self, log)

    def __call__(
        self, data: dict[str, Any], step: int | None = None, commit: bool | None = None
    ) -> None:
        if step is not None and step < _next_step(self._run):
            self._log({**data, "requested_step": step})
        else:
            self._log(data, step=step, commit=commit)

    def __reduce__(self) -> tuple[Any, ...]:
        # A run that travels to another process brings its own log method.
        return (functools.partial, (type(self._run).log, self._run))


def _next_step(run: Any) -> int:
    try:
        # The step of a resumed run is 0 until something is logged.
        return max(int(run.step), int(run.starting_step))
    except Exception:
        return 0
