"""A run's rows as clients read them: all, a range, or a sample."""

from __future__ import annotations

import json
from typing import Any

from .binding import Call, resolver
from .records import Run

Row = dict[str, Any]
END = 1 << 62


def sample(rows: list[Row], number: int) -> list[Row]:
    """Return about *number* of *rows*, evenly spread, with the first and the last."""
    if len(rows) <= number:
        return rows
    return [rows[int(i * (len(rows) - 1) / max(number - 1, 1))] for i in range(number)]


@resolver("Run.history")
def history(
    run: Run,
    _: Call,
    min_step: int | None = None,
    max_step: int | None = None,
    samples: int | None = None,
) -> list[str]:
    """Return the rows from *min_step* to before *max_step*; without a start, a sample."""
    first, end = min_step or 0, END if max_step is None else max_step
    rows = [row for row in run.history() if first <= row["_step"] < end]
    rows = sample(rows, samples) if samples and min_step is None else rows
    return [json.dumps(row) for row in rows]


@resolver("Run.sampledHistory")
def sampled_history(run: Run, _: Call, specs: list[str]) -> list[list[Row]]:
    """Return a sample of some columns, for each of *specs*."""
    return [_sampled(run.history(), json.loads(spec)) for spec in specs]


def _sampled(rows: list[Row], spec: Row) -> list[Row]:
    keys, first, last = spec["keys"], spec.get("minStep", 0), spec.get("maxStep", END)
    found = [
        {key: row[key] for key in keys}
        for row in rows
        if all(key in row for key in keys) and first <= row["_step"] <= last
    ]
    return sample(found, spec.get("samples") or len(found))


@resolver("Run.parquetHistory")
def parquet_history(run: Run, _: Call, live_keys: list[str]) -> Row:
    """Return that all rows are live: none is exported."""
    return {"parquetUrls": [], "liveData": [{"_step": row["_step"]} for row in run.history()[:1]]}


@resolver("Run.historyKeys")
def history_keys(run: Run, _: Call) -> Row:
    """Return which columns there are, with their types and numbers, and the last step."""
    rows = run.history()
    keys: dict[str, Any] = {}
    for name, value in (item for row in rows for item in row.items()):
        counted = {"type": _type(value), "count": 0}
        entry = keys.setdefault(name, {"typeCounts": [counted], "monotonic": False})
        entry["typeCounts"][0]["count"] += 1
    return {"sets": [], "keys": keys, "lastStep": max((r["_step"] for r in rows), default=-1)}


def _type(value: Any) -> str:
    if isinstance(value, int | float):
        return "number"
    return "string" if isinstance(value, str) else "map"
