"""When to write a checkpoint."""

import os
import time
from dataclasses import dataclass

from samerun.core import contract
from samerun.core.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Write after every *epochs*-th epoch, *batches*-th step, *minutes*; 0 is never."""

    epochs: int = 1
    batches: int = 0
    minutes: float = 10.0
    keep: int = 2

    def due_after_epoch(self, epoch: int) -> bool:
        """Whether the epoch that ended, counted from 0, is one to write after."""
        return bool(self.epochs) and (epoch + 1) % self.epochs == 0

    def due_after_batch(self, steps: int, written_at: float) -> bool:
        """Whether to write after *steps* steps of a fit; *written_at* by ``time.monotonic``."""
        if self.batches and steps % self.batches == 0:
            return True
        return bool(self.minutes) and time.monotonic() - written_at > self.minutes * 60


def parse(text: str) -> Policy:
    """
    Read ``epochs=1,batches=0,minutes=10,keep=2``; what is left out has its default.

    Raises:
        UsageError: A name or a number that is none.
    """
    values: dict[str, float] = {}
    for part in filter(None, text.split(",")):
        name, _, value = part.partition("=")
        try:
            values[name.strip()] = float(value) if name.strip() == "minutes" else int(value)
        except ValueError:
            values[name.strip()] = -1
    known = Policy.__dataclass_fields__
    wrong = [n for n, value in values.items() if n not in known or value < 0]
    if wrong or values.get("keep") == 0:
        raise UsageError(
            f"{contract.ENV_CHECKPOINTS}={text!r} is no policy.",
            "Write e.g. epochs=1,batches=500,minutes=10,keep=2; keep is 1 or more.",
        )
    return Policy(**values)  # type: ignore[arg-type]


def from_environment() -> Policy | None:
    """Return this container's policy; None where no checkpoints are wanted."""
    text = os.environ.get(contract.ENV_CHECKPOINTS)
    return parse(text) if text else None
