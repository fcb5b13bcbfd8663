"""SIGTERM and SIGINT: a checkpoint at the next batch, then exit code 75."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

from samerun.core import contract
from samerun.train import blocked
from samerun.train.checkpoint import logged
from samerun.train.report import reporting
from samerun.train.report.quiet import quietly

SIGNALS = (signal.SIGTERM, signal.SIGINT)
_signals: list[int] = []


class Preempted(SystemExit):
    """Ends the process with 75; a SystemExit, so that no traceback is printed."""

    def __init__(self) -> None:
        super().__init__(contract.EXIT_PREEMPTED)


def asked() -> int:
    """Return the signal that requested this process to stop; 0 if there was none."""
    return _signals[-1] if _signals else 0


@contextlib.contextmanager
def heard() -> Iterator[None]:
    """Remember signals instead of ending the process; a second SIGINT interrupts at once."""
    before = {}
    # Only the main thread may set handlers; in another one, signals keep theirs.
    with contextlib.suppress(ValueError):
        before = {number: signal.signal(number, _note) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _note(number: int, frame: Any) -> None:
    blocked.check()
    if number == signal.SIGINT and signal.SIGINT in _signals:
        raise KeyboardInterrupt
    _signals.append(number)
    name = signal.Signals(number).name
    sys.stderr.write(f"samerun: {name}: writing a checkpoint at the next batch, then stopping.\n")


def leave(place: str) -> None:
    """
    Report the checkpoint at *place* to W&B and the launcher, and end the process.

    Raises:
        Preempted: Always.
    """
    # One process on each machine, because each machine's launcher reads the report.
    if os.environ.get("LOCAL_RANK", "0") == "0":
        quietly("report the stop", reporting.report, "preempted", {"checkpoint": place})
    quietly("mark the W&B run as preempted", _mark_preempting)
    logged.end()
    raise Preempted


def _mark_preempting() -> None:
    wandb = sys.modules.get("wandb")
    if wandb is not None and getattr(wandb, "run", None) is not None:
        wandb.run.mark_preempting()
        wandb.finish(exit_code=contract.EXIT_PREEMPTED)
