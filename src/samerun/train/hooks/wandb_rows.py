"""
No lost and no duplicate rows when a training resumes in the W&B run of an earlier start.

Rows passed to wandb reach its file, or the server, seconds later, so a kill loses some. And
the steps since the last checkpoint are trained and logged a second time. So every row is
written to a journal first. After a resume, the journal is compared with the rows that arrived:
rows missing from before the checkpoint are sent again, rows that arrived are not.
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
    """Filter all rows that the module ``samerun.callback.stream.bulk`` sends."""
    if reporting.is_recorded():
        handover.filters.append(admit)


_journals: dict[str, "Journal"] = {}


def admit(run: Any, rows: Sequence[Row]) -> Sequence[Row]:
    """Write *rows* to the journal; return the lost rows, then the new ones, of *run*."""
    if run.id not in _journals:
        _journals[run.id] = Journal(run)
    return _journals[run.id].admit(rows)


def key(row: Row) -> Key:
    """Return what identifies a row: its step, or for metrics alone their epoch."""
    return row.get("train_step"), row.get("epoch")


class Journal:
    """All rows of the callback in one W&B run, over all starts."""

    def __init__(self, run: Any) -> None:
        self._path = reporting.folder() / contract.PARTS / f"rows-{run.id}.jsonl"
        before = quietly("read the journal of rows", read, self._path) or []
        self._lost: list[Row] = []
        self._there: set[Key] = set()
        if before:
            times = quietly("query the rows that W&B has", arrived, run) or set()
            # If two starts sent a row, it may have arrived only from the earlier one.
            self._there = {key(row) for row in before if _milliseconds(row) in times}
            lost = {key(row): row for row in before if key(row) not in self._there}
            self._lost = list(lost.values())
        self._file = self._path.open("a", encoding="utf-8")

    def admit(self, rows: Sequence[Row]) -> list[Row]:
        """Write *rows* to the journal; return the rows to send."""
        missing, self._lost = self._missing_before(rows), []
        new = [row for row in rows if key(row) not in self._there]
        self._file.writelines(json.dumps(row) + "\n" for row in [*missing, *new])
        self._file.flush()
        return [*missing, *new]

    def _missing_before(self, rows: Sequence[Row]) -> list[Row]:
        """Return the lost rows that precede *rows*, the first rows of this start."""
        if not self._lost or not rows:
            return []
        first = _order(rows[0])
        return [row for row in self._lost if _order(row) < first]


def _order(row: Row) -> tuple[float, bool]:
    """Return the position of a row in time; an epoch's metrics follow its last step."""
    return float(row.get("epoch") or 0.0), row.get("train_step") is None


def read(path: Path) -> list[Row]:
    """Return the rows in the journal *path*; a kill may have truncated a line."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


def arrived(run: Any) -> set[int]:
    """Return the times, in milliseconds, of all rows of *run* that W&B has."""
    from samerun.train.hooks import wandb_log

    if not run.offline:
        return _on_server(run)
    own = Path(run.dir).parent
    logs = own.parent.glob(f"*run-*-{run.id}/run-{run.id}.wandb")
    return {time for log in logs if log.parent != own for _, time in wandb_log.read(log)["rows"]}


def _on_server(run: Any) -> set[int]:
    wandb = sys.modules["wandb"]
    stored = wandb.Api(timeout=API_TIMEOUT_S).run(f"{run.entity}/{run.project}/{run.id}")
    rows = stored.scan_history(keys=["_timestamp"], page_size=10_000)
    return {_milliseconds(row) for row in rows}


def _milliseconds(row: Row) -> int:
    return round(float(row.get("_timestamp") or 0) * 1000)
