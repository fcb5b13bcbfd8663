"""The outcome of a run, derived from facts about its end by pure functions."""

import signal
from dataclasses import dataclass

from samerun.core import contract
from samerun.core.errors import NodeLost
from samerun.core.record import Run, State, now

# Reasons for an external end other than a signal.
ENGINE_RESTARTED = "the engine restarted"
REMOVED = "the container was removed"
STOP_VERB = "invoke stop"

# The exit code that a restarted engine reports for containers that ended without it.
EXIT_UNKNOWN = 255
KILLED = (128 + signal.SIGKILL, 128 + signal.SIGTERM)
ENDED = ("finished", "failed")


@dataclass(frozen=True, kw_only=True)
class Ending:
    """
    The facts about the end of one start.

    Attributes:
        exit_code: The training's exit code, 128 + n for a signal.
        duration_s: Seconds of this start; the record has the sum over all starts.
        stopped_by: The signal or command with which the user ended it.
        signal: The last signal that the training received from elsewhere.
        out_of_memory: The kernel killed one of its processes for lack of memory.
        removed: The container was removed, so its exit code is unknown.
        engine_lost: The engine was unavailable during the run.
        disk_full: The output's disk has no free space or inodes.
        missing_data: The path of data that vanished.
    """

    exit_code: int
    duration_s: float
    stopped_by: str | None = None
    signal: str | None = None
    out_of_memory: bool = False
    removed: bool = False
    engine_lost: bool = False
    disk_full: bool = False
    missing_data: str | None = None


def close(run: Run, ending: Ending) -> Run:
    """Return *run* with its outcome."""
    state, reason = _state(ending)
    return run.with_outcome(
        state=state,
        exit_code=ending.exit_code,
        reason=reason,
        ended=now(),
        duration_s=round((run.outcome.duration_s or 0) + max(0.0, ending.duration_s), 3),
    )


def _state(ending: Ending) -> tuple[State, str | None]:
    if ending.out_of_memory and ending.exit_code:
        return "killed", contract.OUT_OF_MEMORY
    if ending.exit_code == contract.EXIT_PREEMPTED:
        return "preempted", ending.stopped_by or ending.signal or "SIGTERM"
    if ending.stopped_by:
        return "stopped", ending.stopped_by
    if ending.exit_code == NodeLost.exit_code:
        return "killed", contract.NODE_LOST
    killer = _killer(ending)
    if killer is not None:
        return "killed", killer
    return ("failed", _cause(ending)) if ending.exit_code else ("finished", None)


def _killer(ending: Ending) -> str | None:
    """Return what ended the training from outside, None if nothing did."""
    if ending.removed:
        return REMOVED
    if ending.engine_lost and ending.exit_code in (*KILLED, EXIT_UNKNOWN):
        return ENGINE_RESTARTED
    return signal.Signals(ending.exit_code - 128).name if ending.exit_code in KILLED else None


def _cause(ending: Ending) -> str | None:
    """Return the cause of a failure if it is disk or data, else None."""
    if ending.disk_full:
        return contract.OUTPUT_FULL
    return f"{contract.DATA_GONE}: {ending.missing_data}" if ending.missing_data else None


def restarted(run: Run) -> Run:
    """Return *run* with the outcome reset for its next start."""
    return run.with_outcome(
        state="running",
        exit_code=None,
        reason=None,
        ended=None,
        failure=None,
        restarts=run.outcome.restarts + 1,
    )
