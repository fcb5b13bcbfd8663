"""What the container's processes report, each in its own file, and how it becomes the record."""

import contextlib
import dataclasses
import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from samerun.core import contract, validation
from samerun.core.files import read_plain, write_atomically
from samerun.core.record import Round, Run, WandbRun

T = TypeVar("T")
# Of the kinds that every process or W&B run has one of, more are not read.
MOST_PARTS = 1000
LARGEST_SMALL_PART = 2**20
"""Bytes. A failure with its traceback, or a W&B run's names, is far smaller."""


def report(folder: Path, part: str, value: Any) -> None:
    """Write one part of the container's report; *part* is named by its one writer."""
    parts = folder / contract.PARTS
    parts.mkdir(exist_ok=True)
    write_atomically(parts / f"{part}.json", json.dumps(value, indent=2) + "\n")


def assemble(folder: Path, run: Run) -> Run:
    """Return *run* with what the container has reported in *folder* so far."""
    config = read_part(folder, "config")
    changes = {
        "environment": read_part(folder, "environment"),
        "result": read_part(folder, "result"),
        "config": config or run.config,
        "checkpoints": read_part(folder, "checkpoints"),
        "nodes": _objects(read_part(folder, "nodes").get("nodes")),
        "starts": _objects(read_part(folder, "starts").get("starts")),
        "rounds": tuple(_built(Round, _objects(read_part(folder, "rounds").get("rounds")))),
        "wandb": tuple(_built(WandbRun, _several(folder, "wandb-*.json"))),
    }
    first_batch = read_part(folder, "first_batch").get("seconds")
    seconds = float(first_batch) if isinstance(first_batch, int | float) else None
    run = dataclasses.replace(run, **changes)  # type: ignore[arg-type]
    return run.with_outcome(first_batch_s=seconds, failure=first_failure(folder))


def read_part(folder: Path, part: str) -> dict[str, Any]:
    """Return what was reported as *part* in *folder*; empty if nothing readable was."""
    return _part(folder / contract.PARTS / f"{part}.json")


def first_failure(folder: Path) -> dict[str, Any] | None:
    """Return the failure of the process that failed first: others follow from it."""
    failures = [part for part in _several(folder, "failure-*.json") if part]
    timed = [f for f in failures if isinstance(f.get("time"), float)]
    return min(timed, key=lambda f: f["time"], default=None)


def _several(folder: Path, pattern: str) -> list[dict[str, Any]]:
    """Return the small parts that each process or W&B run has of its kind."""
    paths = islice(sorted((folder / contract.PARTS).glob(pattern)), MOST_PARTS)
    return [_part(path, LARGEST_SMALL_PART) for path in paths]


def _objects(value: Any) -> tuple[dict[str, Any], ...]:
    found = value if isinstance(value, list) else []
    return tuple(one for one in found if isinstance(one, dict))


def _built(cls: type[T], raw: Iterable[dict[str, Any]]) -> Iterator[T]:
    """Yield what *raw* describes; what has another shape is left out."""
    for one in raw:
        with contextlib.suppress(ValueError):
            yield validation.build(cls, one)


def _part(path: Path, limit: int | None = None) -> dict[str, Any]:
    """Read one part; one that is absent or torn, or no plain file, counts as empty."""
    try:
        value = json.loads(read_plain(path, limit))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
