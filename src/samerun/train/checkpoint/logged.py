"""What was logged to W&B so far, in a checkpoint: a training may well have no W&B."""

import sys
from typing import Any

_JOURNAL = "samerun.train.hooks.wandb_journal"


def capture() -> dict[str, Any]:
    """Return how much this process has logged to each of its W&B runs."""
    journal = sys.modules.get(_JOURNAL)
    return journal.state() if journal else {}


def restore(own: dict[str, Any], *, muted: bool = False) -> None:
    """Continue from what `capture` returned, if the checkpoint's process *own* has it."""
    journal = sys.modules.get(_JOURNAL)
    if journal:
        journal.restore(own.get("logged"), muted=muted)


def end() -> None:
    """Log nothing more to W&B in this start."""
    journal = sys.modules.get(_JOURNAL)
    if journal:
        journal.end()
