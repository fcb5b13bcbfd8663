"""When a run that ended is started once more by itself: `--restarts`."""

import os
from pathlib import Path

from samerun.core import contract
from samerun.core.record import Run

# Starts in a row that leave no new checkpoint: the next one would meet the same end.
STUCK = 3

Progress = tuple[tuple[str, int], ...]


class Restarts:
    """Counts the starts of one run, of which *limit* are allowed after the first."""

    def __init__(self, limit: int, folder: Path) -> None:
        self._limit, self._folder = limit, folder
        self._done = self._without = 0
        self._seen = progress(folder)

    def refusal(self, run: Run) -> str | None:
        """Return why *run*, which has ended, is not started again; None: it is."""
        if not interrupted(run):
            return "it ended by itself"
        if self._done >= self._limit:
            return f"it was started again {self._done} times"
        seen = progress(self._folder)
        self._without = self._without + 1 if seen == self._seen else 0
        self._seen = seen
        # Checkpoints lie on node 0; another node can't tell, and starts again as often as asked.
        if self._without >= STUCK and run.topology.node_rank == 0:
            return f"{STUCK} starts in a row came to no new checkpoint"
        self._done += 1
        return None


def interrupted(run: Run) -> bool:
    """Whether *run* was ended from outside; its own failure would only come again."""
    outcome = run.outcome
    killed = outcome.state == "killed" and outcome.reason != contract.OUT_OF_MEMORY
    return killed or outcome.state == "preempted"


def progress(folder: Path) -> Progress:
    """Return what changes with every checkpoint: names and times of what lies there."""
    try:
        with os.scandir(folder / contract.CHECKPOINTS) as entries:
            # Hidden ones are cut off, or in the making.
            whole = [entry for entry in entries if not entry.name.startswith(".")]
            found = [(e.name, e.stat(follow_symlinks=False).st_mtime_ns) for e in whole]
    except OSError:
        return ()
    return tuple(sorted(found))
