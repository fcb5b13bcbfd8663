"""The fits of this process, counted, and the checkpoints that an earlier start left of them."""

import os
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samerun.core import contract
from samerun.core.checkpoint_policy import Policy
from samerun.core.errors import ResumeError
from samerun.train.checkpoint import snapshot
from samerun.train.checkpoint.ranks import SingleProcess
from samerun.train.checkpoint.store import FORMAT, Position, Store
from samerun.train.report import reporting


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A checkpoint that a fit goes on from."""

    place: Position
    state: Mapping[str, Any]


class History:
    """Which fit this is, and what to do about it; one object per process."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self._fits = 0
        self._learners: list[Any] = []
        self._stores: dict[Path, Store] = {}
        self._resuming = True

    def store(self, *, shared: bool) -> Store:
        """Return where checkpoints lie; processes with a training each have a folder each."""
        folder = reporting.folder() / contract.CHECKPOINTS
        if not shared and reporting.rank():
            folder /= f"rank-{reporting.rank()}"
        if folder not in self._stores:
            self._stores[folder] = Store(folder, self.policy.keep, epochs=is_elastic())
        return self._stores[folder]

    def begin(self, learn: Any) -> Position:
        """Count a fit, and return its place."""
        known = [n for n, ref in enumerate(self._learners) if ref() is learn]
        if not known:
            self._learners.append(weakref.ref(learn))
        number = known[0] if known else len(self._learners) - 1
        self._fits += 1
        return Position(fit=self._fits - 1, done=False, epoch=0, batch=0, learner=number)

    def kept(self, place: Position, store: Store, ranks: SingleProcess) -> Kept | None:
        """
        Return what the fit at *place* goes on from; None to run it from its start.

        An earlier fit whose end is kept comes back as that. Whatever lies behind the first
        fit that has to train again is removed, for that training writes it anew.
        """
        if not self._resuming:
            return None
        found = ranks.first(self._find(place, store, ranks.size) if ranks.rank == 0 else None)
        kept = Kept(place=found[0], state=found[1]) if found else None
        if kept is None or not kept.place.done:
            self._resuming = False
            if ranks.rank == 0:
                store.discard_after(kept.place if kept else place)
        return kept

    def is_superseded(self, place: Position, store: Store, ranks: SingleProcess) -> bool:
        """Whether a later fit of the same learner is kept, and this one's end no more."""
        if not self._resuming:
            return False
        later = [
            entry
            for entry in store.entries()
            if entry.place.fit > place.fit and entry.place.learner == place.learner
        ]
        mine = any(entry.place.fit == place.fit for entry in store.entries())
        return bool(ranks.first(bool(later) and not mine))

    @staticmethod
    def _find(place: Position, store: Store, size: int) -> tuple[Position, dict[str, Any]] | None:
        mine = [entry for entry in store.entries() if entry.place.fit == place.fit]
        for entry in sorted(mine, key=lambda entry: entry.place, reverse=True):
            state = store.load(entry)
            if state is not None and not _splits_otherwise(entry.place, state, size):
                return entry.place, state
        return None


def is_elastic() -> bool:
    """Whether the number of processes may be another one than at the last start."""
    return os.environ.get(contract.ENV_ELASTIC) == "1"


def _splits_otherwise(place: Position, state: Mapping[str, Any], size: int) -> bool:
    """
    Whether a checkpoint from within an epoch was made by another number of processes.

    Each takes a stretch of the epoch's items, so what is left to do of that epoch is no
    stretch for any other number: the job goes on from the epoch's start.
    """
    return is_elastic() and bool(place.batch) and state.get("processes") != size


def check_fits(
    place: Position, state: Mapping[str, Any], learn: Any, n_epoch: int, size: int
) -> None:
    """
    Refuse a checkpoint of another training.

    Raises:
        ResumeError: With what differs, and both values.
    """
    pairs = {
        "format": (state.get("format"), FORMAT),
        "epochs": (state.get("epochs"), n_epoch),
        "model": (state.get("shapes"), snapshot.shapes(learn.model)),
    }
    if not is_elastic():
        pairs["processes"] = (state.get("processes"), size)
        pairs["batches per epoch"] = (state.get("batches"), len(learn.dls.train))
    for name, (theirs, ours) in pairs.items():
        if theirs == ours:
            continue
        one, two = _first_difference(str(theirs), str(ours))
        raise ResumeError(
            f"Checkpoint {place.name} was made with {name} {one}, the training has {two}.",
            "Resume with the same code, arguments and processes, or start a new run.",
        )


def of_rank(state: Mapping[str, Any], rank: int) -> Any:
    """Return what the process *rank* kept of its own; a new one begins like another."""
    kept = state["ranks"]
    return kept[rank % len(kept)]


def _first_difference(one: str, two: str) -> tuple[str, str]:
    pairs = zip([*one.split(), "nothing"], [*two.split(), "nothing"], strict=False)
    return next((a, b) for a, b in pairs if a != b)
