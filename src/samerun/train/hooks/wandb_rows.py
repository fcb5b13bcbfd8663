"""
No row lost, none doubled, when a training goes on in the W&B run of an earlier start.

What wandb has taken reaches its file, or the server, seconds later: a kill loses that. And
the steps since the last checkpoint are trained, and logged, once more. So every row is
noted here first. After a resume it is looked up what has arrived; what is missing from
before the checkpoint is sent again, and what is there already is not.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from samerun.core import contract
from samerun.train.report import reporting
from samerun.train.report.quiet import quietly

Row = dict[str, Any]
Key = tuple[Any, Any]
API_TIMEOUT_S = 20


def install(handover: Any) -> None:
    """Look at all rows that the module ``samerun.callback.stream.bulk`` sends."""
    if reporting.is_recorded():
        handover.filters.append(admit)


_journals: dict[str, "Journal"] = {}


def admit(run: Any, rows: Sequence[Row]) -> Sequence[Row]:
    """Note *rows*, and return those that *run* does not have, after those that it lost."""
    if run.id not in _journals:
        _journals[run.id] = Journal(run)
    return _journals[run.id].admit(rows)


def key(row: Row) -> Key:
    """Return what names a row: its step, or for metrics alone their epoch."""
    return row.get("train_step"), row.get("epoch")


class Journal:
    """All rows of the callback in one W&B run, over all starts."""

    def __init__(self, run: Any) -> None:
        self._path = reporting.folder() / contract.PARTS / f"rows-{run.id}.jsonl"
        before = quietly("read the noted rows", read, self._path) or []
        self._lost: list[Row] = []
        self._there: set[Key] = set()
        if before:
            times = quietly("ask what W&B has", arrived, run) or set()
            # Sent by two starts, a row may have arrived from the earlier one only.
            self._there = {key(row) for row in before if _milliseconds(row) in times}
            lost = {key(row): row for row in before if key(row) not in self._there}
            self._lost = list(lost.values())
        self._file = self._path.open("a", encoding="utf-8")

    def admit(self, rows: Sequence[Row]) -> list[Row]:
        """Note *rows*; return what is to be sent."""
        missing, self._lost = self._missing_before(rows), []
        new = [row for row in rows if key(row) not in self._there]
        self._file.writelines(json.dumps(row) + "\n" for row in [*missing, *new])
        self._file.flush()
        return [*missing, *new]

    def _missing_before(self, rows: Sequence[Row]) -> list[Row]:
        """Return the lost rows that do not come again with *rows*, the first of this start."""
        if not self._lost or not rows:
            return []
        first = _order(rows[0])
        return [row for row in self._lost if _order(row) < first]


def _order(row: Row) -> tuple[float, bool]:
    """Return the place of a row on the axis of epochs; metrics come after their last step."""
    return float(row.get("epoch") or 0.0), row.get("train_step") is None


def read(path: Path) -> list[Row]:
    """Return the rows noted in *path*; the last line of a killed start may be torn."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


def arrived(run: Any) -> set[int]:
    """Return the times, in milliseconds, of all rows that W&B has of *run*."""
    from samerun.train.hooks import wandb_log

    if not run.offline:
        return _on_server(run)
    own = Path(run.dir).parent
    logs = own.parent.glob(f"*run-*-{run.id}/run-{run.id}.wandb")
    return {time for log in logs if log.parent != own for _, time in wandb_log.read(log)["rows"]}


def _on_server(run: Any) -> set[int]:
    wandb = sys.modules["wandb"]
    found = wandb.Api(timeout=API_TIMEOUT_S).run(f"{run.entity}/{run.project}/{run.id}")
    rows = found.scan_history(keys=["_timestamp"], page_size=10_000)
    return {_milliseconds(row) for row in rows}


def _milliseconds(row: Row) -> int:
    return round(float(row.get("_timestamp") or 0) * 1000)
