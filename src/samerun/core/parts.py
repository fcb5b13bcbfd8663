"""The parts of the record that the container's processes report, each in a separate file."""

import contextlib
import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from samerun.core import contract, first_failure, validation
from samerun.core.files import read_plain, write_atomically
from samerun.core.record import Round, Run, WandbRun

T = TypeVar("T")
# At most so many parts of one kind are read (one per process or W&B run).
MOST_PARTS = 1000
LARGEST_SMALL_PART = 2**20
"""Bytes: much larger than a failure with its traceback or the names of a W&B run."""


def report(folder: Path, part: str, value: Any) -> None:
    """Write one part of the record; each *part* has only one writer."""
    parts = folder / contract.PARTS
    parts.mkdir(exist_ok=True)
    write_atomically(parts / f"{part}.json", json.dumps(value, indent=2) + "\n")


def assemble(folder: Path, run: Run) -> Run:
    """Return *run* with the parts that the container has reported in *folder* so far."""
    config = read_part(folder, "config")
    changes = {
        "environment": _environment(folder),
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
    run = _as_computed(dataclasses.replace(run, **changes))  # type: ignore[arg-type]
    return run.with_outcome(first_batch_s=seconds, failure=cause_of_failure(folder))


def _environment(folder: Path) -> dict[str, Any]:
    """Return the environment, with the operations that were reported later."""
    found = read_part(folder, "environment")
    names = read_part(folder, contract.NONDETERMINISTIC).get("operations")
    return {**found, contract.NONDETERMINISTIC: names} if found and names else found


def _as_computed(run: Run) -> Run:
    """
    Return *run* with the GPUs that were used, if a container started by hand wrote it.

    It knows only the devices it was given until torch has tried them.
    """
    launch = run.launch.environment if run.launch else {}
    device = run.environment.get("device")
    if run.written_by != "container" or contract.ENV_GPUS in launch or device is None:
        return run
    names = tuple(_gpu_names(run.environment)) if device == "cuda" else ()
    return dataclasses.replace(
        run,
        topology=dataclasses.replace(run.topology, gpus=str(len(names))),
        hardware=dataclasses.replace(run.hardware, gpus=names),
    )


def _gpu_names(environment: Mapping[str, Any]) -> Iterator[str]:
    """Yield torch's names of the GPUs as the host writes them, ``NAME (CAPABILITY)``."""
    for gpu in _objects(environment.get("gpus")):
        yield f"{gpu.get('name')} ({gpu.get('capability')})"


def read_part(folder: Path, part: str) -> dict[str, Any]:
    """Return the report *part* in *folder*; empty if it is missing or unreadable."""
    return _part(folder / contract.PARTS / f"{part}.json")


def cause_of_failure(folder: Path) -> dict[str, Any] | None:
    """Return the failure of the process that failed first, because it causes the others."""
    failures = _several(folder, "failure-*.json")
    return first_failure.first(one for one in failures if isinstance(one.get("time"), float))


def _several(folder: Path, pattern: str) -> list[dict[str, Any]]:
    """Return the parts of a kind of which each process or W&B run has one."""
    paths = islice(sorted((folder / contract.PARTS).glob(pattern)), MOST_PARTS)
    return [_part(path, LARGEST_SMALL_PART) for path in paths]


def _objects(value: Any) -> tuple[dict[str, Any], ...]:
    items = value if isinstance(value, list) else []
    return tuple(item for item in items if isinstance(item, dict))


def _built(cls: type[T], raw: Iterable[dict[str, Any]]) -> Iterator[T]:
    """Yield the objects in *raw*, except invalid ones."""
    for one in raw:
        with contextlib.suppress(ValueError):
            yield validation.build(cls, one)


def _part(path: Path, limit: int | None = None) -> dict[str, Any]:
    """Read one part; a missing, truncated or special file counts as empty."""
    try:
        value = json.loads(read_plain(path, limit))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
