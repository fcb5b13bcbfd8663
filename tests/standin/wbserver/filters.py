"""Runs by a filter as ``wandb.Api().runs(filters=…)`` takes it, in MongoDB's manner."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

from .records import Run

COMPARED: dict[str, Callable[[Any, Any], bool]] = {
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
}


def matches(run: Run, wanted: Mapping[str, Any]) -> bool:
    """Return whether *run* is as *wanted*."""
    return all(_matches(run, key, condition) for key, condition in wanted.items())


def _matches(run: Run, key: str, condition: Any) -> bool:
    if key == "$and":
        return all(matches(run, part) for part in condition)
    if key == "$or":
        return any(matches(run, part) for part in condition)
    if key == "tags":
        tags = condition["$in"] if isinstance(condition, dict) else [condition]
        return not set(tags).isdisjoint(run.tags)
    value = _value(run, key)
    if isinstance(condition, dict):
        return all(_compares(value, name, bound) for name, bound in condition.items())
    return bool(value == condition)


def _compares(value: Any, name: str, bound: Any) -> bool:
    if name == "$in":
        return bool(value in bound)
    if name == "$ne":
        return bool(value != bound)
    if name in COMPARED:
        return value is not None and COMPARED[name](value, bound)
    return True


def _value(run: Run, key: str) -> Any:
    kind, _, name = key.partition(".")
    if kind == "config":
        entry = run.config.get(name.partition(".")[0], {})
        return entry.get("value") if isinstance(entry, dict) else entry
    if kind == "summary_metrics":
        return run.summary.get(name)
    return getattr(run, re.sub(r"(?<=[a-z])(?=[A-Z])", "_", key).lower(), None)
