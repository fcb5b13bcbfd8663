"""Reports of this process to the run's record, if there is one."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from samerun.core import contract, parts, record

# A file that node 0 creates, to ask rank 0 for a pause.
PAUSE = "pause"


def is_recorded() -> bool:
    """Whether this run has a record."""
    return contract.ENV_RECORD in os.environ


def rank() -> int:
    """Return the rank of this process, 0 outside of a distributed job."""
    return int(os.environ.get("RANK", "0"))


def processes() -> int:
    """Return the number of processes of this job, 1 outside of a distributed one."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def folder() -> Path:
    """Return the run's folder."""
    return Path(os.environ[contract.ENV_RECORD]).parent


def started() -> None:
    """Report a start of the run; called by the main process, once."""
    start = {"started": record.now(), "processes": processes(), "resumed": None}
    _starts([*_read_starts(), start])


def resumed(where: Mapping[str, Any]) -> None:
    """Report the checkpoint from which this start resumed."""
    starts = _read_starts()
    if starts:
        _starts([*starts[:-1], {**starts[-1], "resumed": dict(where)}])


def preempted() -> bool:
    """Whether a training of this start wrote its checkpoint after a signal."""
    return is_recorded() and bool(parts.read_part(folder(), "preempted"))


def has_failed(rank: int) -> bool:
    """Whether the process *rank* has reported its failure."""
    return is_recorded() and bool(parts.read_part(folder(), f"failure-{rank}"))


def forget_end() -> None:
    """Remove the reports of an earlier start about its end."""
    if is_recorded():
        for pattern in ("preempted.json", "failure-*.json", PAUSE):
            for path in (folder() / contract.PARTS).glob(pattern):
                path.unlink(missing_ok=True)


def ask_pause() -> None:
    """Ask the training to stop, with a checkpoint, at the end of its epoch."""
    if is_recorded():
        (folder() / contract.PARTS).mkdir(exist_ok=True)
        (folder() / contract.PARTS / PAUSE).touch()


def pause_is_asked() -> bool:
    """Whether a pause is requested; only rank 0 reads this."""
    return is_recorded() and (folder() / contract.PARTS / PAUSE).exists()


def start_number() -> int:
    """Return which start of the run this is, from 1."""
    return max(1, len(_read_starts()))


def _starts(starts: Sequence[Mapping[str, Any]]) -> None:
    report("starts", {"starts": list(starts)})


def _read_starts() -> list[dict[str, Any]]:
    if not is_recorded():
        return []
    starts = parts.read_part(folder(), "starts").get("starts")
    return starts if isinstance(starts, list) else []


def report(part: str, value: Any) -> None:
    """Report one part of the record; does nothing without a record."""
    if is_recorded():
        parts.report(folder(), part, value)
