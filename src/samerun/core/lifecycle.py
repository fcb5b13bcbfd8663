"""How a run ended: what the engine, the container and the surroundings say of it."""

import os
import signal
from pathlib import Path
from typing import Any

from samerun.core import contract, record
from samerun.core.errors import NodeLost
from samerun.core.record import Run, State

# Reasons that only the host can see; `train.remedy` says what to do about the others.
ENGINE_RESTARTED = "the engine restarted"
REMOVED = "the container was removed"
STOP_VERB = "invoke stop"

# What an engine that was killed itself says of its containers when it is back.
EXIT_UNKNOWN = 255
KILLED = (128 + signal.SIGKILL, 128 + signal.SIGTERM)


def close(
    run: Run,
    state: dict[str, Any],
    *,
    stopped_by: str | None,
    duration_s: float,
    lost: bool = False,
) -> Run:
    """
    Return *run* with its outcome, from what the engine says of the ended container.

    Args:
        run: The record of the run while it went on.
        state: The engine's ``State`` of the container.
        stopped_by: The signal or the verb by which the user ended it.
        duration_s: Of this start; the record has the sum over all of them.
        lost: The engine was away meanwhile.
    """
    code = int(state["ExitCode"])
    ending, reason = _ending(code, state, stopped_by, lost=lost)
    return run.with_outcome(
        state=ending,
        exit_code=code,
        reason=reason,
        ended=record.now(),
        duration_s=round((run.outcome.duration_s or 0) + duration_s, 3),
    )


def _ending(
    code: int, state: dict[str, Any], stopped_by: str | None, *, lost: bool
) -> tuple[State, str | None]:
    if state.get("OOMKilled"):
        return "killed", contract.OUT_OF_MEMORY
    if code == contract.EXIT_PREEMPTED:
        return "preempted", stopped_by or "SIGTERM"
    if stopped_by:
        return "stopped", stopped_by
    if code == NodeLost.exit_code:
        return "killed", contract.NODE_LOST
    killer = _killer(code, state, lost=lost)
    if killer is not None:
        return "killed", killer
    return ("failed", None) if code else ("finished", None)


def _killer(code: int, state: dict[str, Any], *, lost: bool) -> str | None:
    """Return who or what ended the container from outside, None if nobody did."""
    if state.get("Removed"):
        return REMOVED
    if lost and code in (*KILLED, EXIT_UNKNOWN):
        return ENGINE_RESTARTED
    return signal.Signals(code - 128).name if code in KILLED else None


def cause(folder: Path, run: Run) -> str | None:
    """Return what in the run's surroundings explains its failure, None if nothing does."""
    status = os.statvfs(folder)
    if status.f_bavail * status.f_frsize < contract.FULL_BYTES:
        return contract.OUTPUT_FULL
    gone = [data.source for data in run.data if not _is_there(Path(data.source))]
    return f"{contract.DATA_GONE}: {gone[0]}" if gone else None


def _is_there(folder: Path) -> bool:
    try:
        return any(folder.iterdir())
    except OSError:
        return False


def restarted(run: Run) -> Run:
    """Return *run* as it is when it starts once more."""
    return run.with_outcome(
        state="running",
        exit_code=None,
        reason=None,
        ended=None,
        failure=None,
        restarts=run.outcome.restarts + 1,
    )
