"""What the container's processes report, each in its own file, and how it becomes the record."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from samerun.core import contract
from samerun.core.files import read_plain, write_atomically
from samerun.core.record import Run


def report(folder: Path, part: str, value: Any) -> None:
    """Write one part of the container's report; *part* is named by its one writer."""
    parts = folder / contract.PARTS
    parts.mkdir(exist_ok=True)
    write_atomically(parts / f"{part}.json", json.dumps(value, indent=2) + "\n")


def assemble(folder: Path, run: Run) -> Run:
    """Return *run* with what the container has reported in *folder* so far."""
    parts = folder / contract.PARTS
    environment = _part(parts / "environment.json")
    result = _part(parts / "result.json")
    first_batch = _part(parts / "first_batch.json").get("seconds")
    config = _part(parts / "config.json")
    nodes = _part(parts / "nodes.json").get("nodes")
    rounds = _part(parts / "rounds.json").get("rounds")
    rounds = [one for one in rounds if _is_round(one)] if isinstance(rounds, list) else []
    starts = _part(parts / "starts.json").get("starts")
    runs = tuple(filter(_is_wandb, map(_part, sorted(parts.glob("wandb-*.json")))))
    run = dataclasses.replace(
        run,
        environment=environment,
        result=result,
        wandb=runs,
        nodes=tuple(nodes) if isinstance(nodes, list) else (),
        rounds=tuple(rounds),
        config=config or run.config,
        starts=tuple(starts) if isinstance(starts, list) else (),
        checkpoints=_part(parts / "checkpoints.json"),
    )
    return run.with_outcome(first_batch_s=first_batch, failure=first_failure(folder))


def read_part(folder: Path, part: str) -> dict[str, Any]:
    """Return what was reported as *part* in *folder*; empty if nothing readable was."""
    return _part(folder / contract.PARTS / f"{part}.json")


def first_failure(folder: Path) -> dict[str, Any] | None:
    """Return the failure of the process that failed first: others follow from it."""
    parts = folder / contract.PARTS
    failures = [part for path in parts.glob("failure-*.json") if (part := _part(path))]
    timed = [f for f in failures if isinstance(f.get("time"), float)]
    return min(timed, key=lambda f: f["time"], default=None)


def _is_round(part: Any) -> bool:
    """Whether *part* has what the host's own lines about a round need."""
    return (
        isinstance(part, dict)
        and isinstance(part.get("nodes"), list)
        and isinstance(part.get("why"), str)
    )


def _is_wandb(part: dict[str, Any]) -> bool:
    """Whether *part* has what the host's own lines about a W&B run need."""
    named = all(isinstance(part.get(key), str) for key in ("id", "mode", "dir"))
    return named and isinstance(part.get("url"), str | None)


def _part(path: Path) -> dict[str, Any]:
    """Read one part; one that is absent or torn, or no plain file, counts as empty."""
    try:
        value = json.loads(read_plain(path))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
