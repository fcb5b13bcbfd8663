"""Whether to restart a run that has ended: `--restarts`."""

import os
from pathlib import Path

from samerun.core import contract
from samerun.core.record import Run

# After so many consecutive starts without a new checkpoint, a restart would not help.
STUCK = 3

Progress = tuple[tuple[str, int], ...]


class Restarts:
    """Counts the starts of one run, of which *limit* are allowed after the first."""

    def __init__(self, limit: int, folder: Path) -> None:
        self._limit, self._folder = limit, folder
        self._done = self._without = 0
        self._seen = progress(folder)

    def refusal(self, run: Run) -> str | None:
        """Return why *run*, which has ended, is not restarted; None to restart it."""
        if not interrupted(run):
            return "it ended by itself"
        if self._done >= self._limit:
            return f"it was already restarted {self._done} times"
        seen = progress(self._folder)
        self._without = self._without + 1 if seen == self._seen else 0
        self._seen = seen
        # Only node 0 has checkpoints; other nodes restart up to the limit.
        if self._without >= STUCK and run.topology.node_rank == 0:
            return f"{STUCK} consecutive starts wrote no new checkpoint"
        self._done += 1
        return None


def interrupted(run: Run) -> bool:
    """Whether *run* was ended from outside; its own failure would only repeat."""
    outcome = run.outcome
    killed = outcome.state == "killed" and outcome.reason != contract.OUT_OF_MEMORY
    return killed or outcome.state == "preempted"


def progress(folder: Path) -> Progress:
    """Return what changes with every checkpoint: names and times of the files."""
    try:
        with os.scandir(folder / contract.CHECKPOINTS) as entries:
            # Hidden files are incomplete.
            complete = [entry for entry in entries if not entry.name.startswith(".")]
            files = [(e.name, e.stat(follow_symlinks=False).st_mtime_ns) for e in complete]
    except OSError:
        return ()
    return tuple(sorted(files))
