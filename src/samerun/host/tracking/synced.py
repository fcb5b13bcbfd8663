"""Whether W&B's server has all of a run: the result of `invoke sync`, next to the record."""

import json
from pathlib import Path
from typing import Any

from samerun.core import contract, files
from samerun.core.record import Run

# Bytes. A run of a thousand W&B runs has less.
LARGEST_NOTE = 2**20


def state(folder: Path, run: Run) -> str:
    """
    Return ``yes`` if the server has everything, ``no`` if not, ``-`` without W&B.

    An online run is ``unverified`` until `invoke sync` has checked it, because W&B's client
    does not report rejected rows.
    """
    if not run.wandb:
        return "-"
    report = read(folder)
    if report.get("ended") == run.outcome.ended and report.get("complete") is True:
        return "yes"
    offline = any(entry.mode == "offline" for entry in run.wandb)
    return "no" if offline or report.get("complete") is False else "unverified"


def is_safe_to_remove(folder: Path, run: Run) -> bool:
    """Whether removing the folder loses no W&B data."""
    return state(folder, run) in ("yes", "-")


def read(folder: Path) -> dict[str, Any]:
    """Return the last report; empty if there is none."""
    try:
        value = json.loads(files.read_plain(folder / contract.SYNC, LARGEST_NOTE))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def note(folder: Path, run: Run, runs: list[dict[str, Any]], *, complete: bool) -> None:
    """Write the report on what the server has of *runs*."""
    value = {"complete": complete, "ended": run.outcome.ended, "runs": runs}
    files.write_atomically(folder / contract.SYNC, json.dumps(value, indent=2) + "\n")
