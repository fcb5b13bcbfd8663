"""When to write checkpoints: the parser of `--checkpoints` for host and container."""

import os
import re
import time
from dataclasses import dataclass, fields
from typing import Self

from samerun.core import contract
from samerun.core.errors import UsageError

OFF = "off"
_FORMS = {"epochs": r"\d+", "batches": r"\d+", "minutes": r"\d+(\.\d+)?", "keep": r"[1-9]\d*"}


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Write after every *epochs*-th epoch, *batches*-th step, *minutes*; 0 means never."""

    epochs: int = 0
    batches: int = 0
    minutes: float = 0
    keep: int = 2

    @classmethod
    def read(cls, text: str, option: str = "--checkpoints") -> Self | None:
        """
        Parse e.g. ``epochs=1,minutes=10``; the default is 0, and 2 for *keep*.

        Returns:
            None for no checkpoints: *text* is ``off`` or empty.

        Raises:
            UsageError: A name or a number is invalid, or no checkpoint would be written.
        """
        if text.strip() in ("", OFF):
            return None
        values = dict(_pair(part) for part in text.split(","))
        fits = all(re.fullmatch(_FORMS.get(name, "$x"), value) for name, value in values.items())
        policy = cls(**{n: _number(n, v) for n, v in values.items()}) if fits else None  # type: ignore[arg-type]
        if policy is None or not (policy.epochs or policy.batches or policy.minutes):
            raise UsageError(
                f"Invalid value for {option}: {text!r}.",
                f"Use e.g. {contract.DEFAULT_CHECKPOINTS}, batches=200,keep=3 or {OFF}. At least "
                "one of epochs, batches and minutes must be positive, and keep must be 1 or more.",
            )
        return policy

    def text(self) -> str:
        """Return the policy with all numbers, in the container's format."""
        return ",".join(f"{f.name}={getattr(self, f.name):g}" for f in fields(self))

    def due_after_epoch(self, epoch: int) -> bool:
        """Whether to write after *epoch*, counted from 0."""
        return bool(self.epochs) and (epoch + 1) % self.epochs == 0

    def due_after_batch(self, steps: int, written_at: float) -> bool:
        """Whether to write after *steps* steps of a fit; *written_at* by ``time.monotonic``."""
        if self.batches and steps % self.batches == 0:
            return True
        return bool(self.minutes) and time.monotonic() - written_at > self.minutes * 60


def _pair(part: str) -> tuple[str, str]:
    name, _, value = part.partition("=")
    return name.strip(), value.strip()


def _number(name: str, value: str) -> float:
    return float(value) if name == "minutes" else int(value)


def variable(text: str) -> str:
    """Return the container's variable for `--checkpoints` *text*; empty for never."""
    policy = Policy.read(text)
    return policy.text() if policy else ""


def from_environment() -> Policy | None:
    """Return this container's policy; None for no checkpoints."""
    text = os.environ.get(contract.ENV_CHECKPOINTS, "")
    return Policy.read(text, contract.ENV_CHECKPOINTS)
