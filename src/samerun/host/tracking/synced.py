"""Whether W&B's server has all of a run: what `invoke sync` found, kept beside the record."""

import json
from pathlib import Path
from typing import Any

from samerun.core import contract, files
from samerun.core.record import Run

# Bytes. A run of a thousand W&B runs has less.
LARGEST_NOTE = 2**20


def state(folder: Path, run: Run) -> str:
    """
    Return ``yes`` if the server was seen to have all, ``no`` if not, ``-`` without W&B.

    An online run is ``unverified`` until `invoke sync` has asked: its client says nothing
    of rows that were refused.
    """
    if not run.wandb:
        return "-"
    found = read(folder)
    if found.get("ended") == run.outcome.ended and found.get("complete") is True:
        return "yes"
    offline = any(entry.mode == "offline" for entry in run.wandb)
    return "no" if offline or found.get("complete") is False else "unverified"


def is_safe_to_remove(folder: Path, run: Run) -> bool:
    """Whether nothing of W&B's is lost with the folder."""
    return state(folder, run) in ("yes", "-")


def read(folder: Path) -> dict[str, Any]:
    """Return what was noted last; empty without a note."""
    try:
        value = json.loads(files.read_plain(folder / contract.SYNC, LARGEST_NOTE))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def note(folder: Path, run: Run, runs: list[dict[str, Any]], *, complete: bool) -> None:
    """Keep what the server was found to have of *runs*."""
    value = {"complete": complete, "ended": run.outcome.ended, "runs": runs}
    files.write_atomically(folder / contract.SYNC, json.dumps(value, indent=2) + "\n")
