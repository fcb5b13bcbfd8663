"""How far a training is, by what its main process reports after each epoch."""

import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from samerun.core import parts

MOST_EPOCHS = 10**9


@dataclass(frozen=True, kw_only=True)
class Progress:
    """
    The state of a fit: *done* of *epochs*, the last metrics, and the *seconds* of an epoch.

    *fit* counts from 0, *at* is when it was reported, as a Unix time.
    """

    fit: int
    epochs: int
    done: int = 0
    seconds: float | None = None
    at: float = 0.0
    metrics: dict[str, float] = field(default_factory=dict)

    def shown(self) -> str:
        """Return it as ``2/5``, with the number of the fit if it is not the first."""
        fit = f"fit {self.fit + 1}: " if self.fit else ""
        return f"{fit}{self.done}/{self.epochs}"

    def left(self, now: float | None = None) -> float | None:
        """Return the seconds until the end of the fit, None before its first epoch has ended."""
        if self.seconds is None:
            return None
        passed = (time.time() if now is None else now) - self.at
        return max(0.0, (self.epochs - self.done) * self.seconds - max(0.0, passed))


def read(folder: Path) -> Progress | None:
    """Return what the run in *folder* reported; None without a valid report."""
    raw = parts.read_part(folder, "progress")
    fit, epochs, done = (raw.get(name, 0) for name in ("fit", "epochs", "done"))
    if not all(type(n) is int and 0 <= n <= MOST_EPOCHS for n in (fit, epochs, done)):
        return None
    if not epochs:
        return None
    return Progress(
        fit=fit,
        epochs=epochs,
        done=done,
        seconds=_number(raw.get("epoch_s")),
        at=_number(raw.get("time")) or 0.0,
        metrics=numbers(raw.get("metrics")),
    )


def numbers(metrics: Any) -> dict[str, float]:
    """Return the finite numbers among *metrics*, by their names."""
    items = metrics.items() if isinstance(metrics, dict) else ()
    found = ((str(name), _number(value)) for name, value in items)
    return {name: value for name, value in found if value is not None}


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) else None
