"""The fits of this process, and their checkpoints from an earlier start."""

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
    """A checkpoint from which a fit resumes."""

    place: Position
    state: Mapping[str, Any]


class History:
    """Counts the fits and finds their checkpoints; one object per process."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self._fits = 0
        self._learners: list[Any] = []
        self._stores: dict[Path, Store] = {}
        self._resuming = True

    def store(self, *, shared: bool) -> Store:
        """Return the store; processes that train separately have separate folders."""
        folder = reporting.folder() / contract.CHECKPOINTS
        if not shared and reporting.rank():
            folder /= f"rank-{reporting.rank()}"
        if folder not in self._stores:
            self._stores[folder] = Store(folder, self.policy.keep, epochs=is_elastic())
        return self._stores[folder]

    def begin(self, learn: Any) -> Position:
        """Count a fit, and return its position."""
        known = [n for n, ref in enumerate(self._learners) if ref() is learn]
        if not known:
            self._learners.append(weakref.ref(learn))
        number = known[0] if known else len(self._learners) - 1
        self._fits += 1
        return Position(fit=self._fits - 1, done=False, epoch=0, batch=0, learner=number)

    def kept(self, place: Position, store: Store, ranks: SingleProcess) -> Kept | None:
        """
        Return the checkpoint from which the fit at *place* resumes; None to start it anew.

        For a completed fit, this is the checkpoint of its end. All checkpoints after the first
        fit that has to train are removed, because that training rewrites them.
        """
        if not self._resuming:
            return None
        pair = ranks.first(self._find(place, store, ranks.size) if ranks.rank == 0 else None)
        checkpoint = Kept(place=pair[0], state=pair[1]) if pair else None
        if checkpoint is None or not checkpoint.place.done:
            self._resuming = False
            if ranks.rank == 0:
                store.discard_after(checkpoint.place if checkpoint else place)
        return checkpoint

    def is_superseded(self, place: Position, store: Store, ranks: SingleProcess) -> bool:
        """Whether a later fit of the same learner has a checkpoint, but this one has none."""
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
            if state is not None and not _has_other_split(entry.place, state, size):
                return entry.place, state
        return None


def is_elastic() -> bool:
    """Whether the number of processes may differ from the last start."""
    return os.environ.get(contract.ENV_ELASTIC) == "1"


def _has_other_split(place: Position, state: Mapping[str, Any], size: int) -> bool:
    """
    Whether a checkpoint within an epoch is from a different number of processes.

    Each process trains on a range of the epoch's items, so another number of processes can't
    continue within the epoch: the job resumes from the epoch's start.
    """
    return is_elastic() and bool(place.batch) and state.get("processes") != size


def check_fits(
    place: Position, state: Mapping[str, Any], learn: Any, n_epoch: int, size: int
) -> None:
    """
    Refuse a checkpoint of a different training.

    Raises:
        ResumeError: They differ; the message holds both values.
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
            f"Checkpoint {place.name} was written with {name} {one}, this training has {two}.",
            "Resume with the same code, arguments and processes, or start a new run.",
        )
    if state["changed"]:
        raise ResumeError(
            f"Before checkpoint {place.name} was written, the fit had changed "
            f"{', '.join(state['changed'])}; a new start of the script begins without that change.",
            "Start a new run. So that it can be resumed, make the change between two fits.",
        )


def of_rank(state: Mapping[str, Any], rank: int) -> Any:
    """Return the state of the process *rank*; an additional process gets another one's."""
    states = state["ranks"]
    return states[rank % len(states)]


def _first_difference(one: str, two: str) -> tuple[str, str]:
    pairs = zip([*one.split(), "nothing"], [*two.split(), "nothing"], strict=False)
    return next((a, b) for a, b in pairs if a != b)
