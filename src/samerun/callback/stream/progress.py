"""Where on the axes of a run the next step lies."""

from __future__ import annotations

import dataclasses
import math
from typing import Any


@dataclasses.dataclass
class Progress:
    """
    What a run has seen so far, shared by all fits and learners that log to it.

    Attributes:
        steps: Training steps logged.
        epoch: Passes over the data, the last one perhaps in part.
        best: Best value of each validation metric.
    """

    steps: int = 0
    epoch: float = 0.0
    best: dict[str, float] = dataclasses.field(default_factory=dict)

    def begin(self, first_epoch: int, batches: int) -> int:
        """
        Return what to add to ``learn.epoch`` of a fit that begins with *first_epoch*.

        ``fit(5)`` and then ``fit(10, start_epoch=5)`` counts on with 5, and so does ``fit(5)``.
        In a run that has seen nothing, ``start_epoch=5`` is taken at its word: the steps before
        it, of *batches* per epoch, were another run's.
        """
        if not self.steps:
            self.steps = first_epoch * batches
        # A fit broken off inside an epoch leaves a fraction; 1e-6 allows for its rounding.
        # With start_epoch that epoch is trained again; a fit without it begins a new one.
        done = math.floor(self.epoch + 1e-6) if first_epoch else math.ceil(self.epoch - 1e-6)
        return max(0, done - first_epoch)


_of_run: dict[str, Progress] = {}


def progress_of(run: Any) -> Progress:
    """Return the progress of *run*, read from its summary if another process has begun it."""
    # The start time tells a second run with the same id apart from the first one.
    key = f"{run.id}@{getattr(run, 'start_time', 0)}"
    if key not in _of_run:
        _of_run[key] = _from_summary(run) if getattr(run, "resumed", False) else Progress()
    return _of_run[key]


def _from_summary(run: Any) -> Progress:
    summary = run.summary
    best = {key: summary.get(key) for key in list(summary.keys()) if key.startswith("best_")}
    return Progress(
        steps=int(_number(summary.get("train_step"), -1) + 1),
        epoch=_number(summary.get("epoch"), 0.0),
        best={key.removeprefix("best_"): value for key, value in best.items() if _is_number(value)},
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _number(value: Any, default: float) -> float:
    return float(value) if _is_number(value) else default
