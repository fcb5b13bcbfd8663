"""
No lost and no duplicate rows of the callback when a training resumes in its W&B run.

The steps since the last checkpoint are trained a second time, and logged a second time. All
rows of the callback pass through the run's journal, which leaves out those that W&B has.
"""

import functools
from collections.abc import Sequence
from typing import Any

from samerun.train.hooks import wandb_journal, wandb_sign
from samerun.train.report import reporting

Row = dict[str, Any]


def install(handover: Any) -> None:
    """Let all rows that the module ``samerun.callback.stream.bulk`` sends pass the journal."""
    if reporting.is_recorded():
        handover.filters.append(admit)
        handover.Handover.send = _surviving(handover.Handover.send)


def admit(run: Any, rows: Sequence[Row]) -> Sequence[Row]:
    """Write *rows* to the journal of *run*; return the lost rows, then the new ones."""
    return wandb_journal.of(run).admit(rows)


def _surviving(original: Any) -> Any:
    """Let the callback send its rows to the end: the journal has them, though W&B is gone."""

    @functools.wraps(original)
    def send(self: Any, rows: Sequence[Row]) -> None:
        try:
            original(self, rows)
        except Exception as error:
            if not wandb_sign.is_gone(error):
                raise
            wandb_sign.tell_gone(self._run, "log", error)

    return send
