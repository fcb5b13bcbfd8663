"""The lines of a journal of what was logged to a W&B run, and the names of their parts."""

import base64
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from samerun.core import contract

Row = dict[str, Any]
# What a row may have in one start and not in another.
_NOT_COLUMNS = {"_timestamp", "requested_step"}


def path(folder: Path, run_id: str) -> Path:
    """Return the journal of the W&B run *run_id*, in the run's *folder*."""
    return folder / contract.PARTS / f"rows-{run_id}.jsonl"


def read(file: Path) -> list[Row]:
    """Return the lines of a journal, except torn ones."""
    lines: list[Row] = []
    for data in file.read_bytes().splitlines() if file.exists() else ():
        try:
            line = json.loads(data)
        except ValueError:
            continue
        if isinstance(line, dict):
            lines.append(_current(line))
    return lines


def _current(line: Row) -> Row:
    """Return a line as it is written now; up to version 0.1 one was a row of the callback."""
    if "_timestamp" not in line:
        return line
    row = {key: value for key, value in line.items() if key != "_timestamp"}
    return {"time": line["_timestamp"], "step": None, "parts": [[callback_key(row), row]]}


def callback_key(row: Row) -> str:
    """Return what identifies a row of the callback: its step, or for metrics alone their epoch."""
    return f"step:{_axis(row, 'train_step')}:{_axis(row, 'epoch')}"


def ends_of_epochs(lines: Iterable[Row], names: set[str]) -> dict[Any, set[str]]:
    """
    Return the columns of the last step of each epoch, by step, in those *lines* that have *names*.

    A fit that failed in its validation sent that row without the metrics of the epoch.
    """
    rows = [row for line in lines for name, row in line.get("parts", ()) if name in names]
    steps = ((_axis(row, "train_step"), row) for row in rows)
    return {s: set(row) for s, row in steps if s is not None and not _axis(row, "epoch") % 1}


def without(row: Row, columns: set[str]) -> Row:
    """Return *row* without *columns*, but for its time and epoch."""
    kept = ("_timestamp", "epoch")
    return {k: v for k, v in row.items() if k not in columns or k.rpartition("/")[2] in kept}


def step(row: Row) -> Any:
    """Return the training step of a row of the callback; None if it has none."""
    return _axis(row, "train_step")


def _axis(row: Row, name: str) -> Any:
    """Return the value of a column, which in a run of several processes has a prefix."""
    if name in row:
        return row[name]
    return next((value for key, value in row.items() if key.endswith(f"/{name}")), None)


def text(message: Any) -> str:
    """Return a message of W&B as text."""
    return base64.b64encode(message.SerializeToString()).decode()


def columns(values: Iterable[str]) -> str:
    """Return what rows with these columns have in common, in each start of the run."""
    names = sorted(set(values) - _NOT_COLUMNS)
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:12]


def order(row: Row) -> tuple[float, bool]:
    """Return the position of a row in time; an epoch's metrics follow its last step."""
    return float(_axis(row, "epoch") or 0.0), _axis(row, "train_step") is None
