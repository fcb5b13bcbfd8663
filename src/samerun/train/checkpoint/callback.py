"""The callback that writes checkpoints, and restores one at the start of a fit."""

import dataclasses
import sys
import time
from typing import Any

from fastai.callback.core import Callback
from torch.nn.parallel import DistributedDataParallel

from samerun.core.checkpoint_policy import Policy
from samerun.train.checkpoint import (
    buckets,
    changes,
    generators,
    history,
    logged,
    snapshot,
    stopping,
)
from samerun.train.checkpoint.changes import Changes, Observed
from samerun.train.checkpoint.history import Kept
from samerun.train.checkpoint.ranks import SingleProcess
from samerun.train.checkpoint.store import FORMAT, Position, Store
from samerun.train.hooks import observe
from samerun.train.report import reporting
from samerun.train.report.quiet import quietly

# From this number of ranks on, DDP's second bucket layout changes the order of additions.
_RANKS_WITH_LAYOUT = 3


class CheckpointCallback(Callback):
    """The checkpoints of one fit; runs after all other callbacks, to save their state."""

    order, remove_on_fetch = 10_000, True

    def __init__(
        self,
        place: Position,
        kept: Kept | None,
        store: Store,
        ranks: SingleProcess,
        policy: Policy,
        entry: Observed,
    ) -> None:
        self.place, self.kept, self.store, self.ranks = place, kept, store, ranks
        self.policy, self.changes = policy, Changes(entry)
        self.written_at = time.monotonic()
        self.epoch_generators: dict[str, Any] | None = None

    # -- resuming ------------------------------------------------------------------------

    @property
    def first_epoch(self) -> int:
        """The epoch in which the fit starts or resumes."""
        return self.kept.place.epoch if self.kept else 0

    def before_fit(self) -> None:
        """Restore the checkpoint, after all callbacks have set up."""
        self.changes.begin_fit(self.learn)
        if self.kept is None:
            return
        state = self.kept.state
        history.check_fits(self.kept.place, state, self.learn, self.learn.n_epoch, self.ranks.size)
        self._lay_out_buckets()
        snapshot.restore(self.learn, dict(state))
        changes.restore(self.learn, state["epoch_values"])
        self._restore_own(muted=bool(self.kept.place.batch))
        if not self.kept.place.batch:
            generators.restore(self._of_rank("generators"), self.learn.dls)
        report_resumed(self.kept.place)

    def _of_rank(self, name: str) -> Any:
        assert self.kept is not None
        return history.of_rank(self.kept.state, self.ranks.rank)[name]

    def _restore_own(self, *, muted: bool = False) -> None:
        assert self.kept is not None
        logged.restore(history.of_rank(self.kept.state, self.ranks.rank), muted=muted)
        snapshot.restore_own(self.learn, dict(self.kept.state), self._of_rank("callbacks"))
        if self.ranks.rank == 0:
            observe.load_state(self._of_rank("witness"))

    def _restore_within(self) -> None:
        """Restore all within an epoch: at its start callbacks may have set something anew."""
        assert self.kept is not None
        generators.restore(self._of_rank("generators"))
        snapshot.restore(self.learn, dict(self.kept.state))
        changes.restore(self.learn, self.kept.state["values"])
        self._restore_own()

    def _lay_out_buckets(self) -> None:
        layout = self.ranks.size >= _RANKS_WITH_LAYOUT
        if layout and isinstance(self.learn.model, DistributedDataParallel):
            buckets.lay_out(self.learn)

    def batches(self) -> Any:
        """Iterate over the training batches, skipping those before the checkpoint."""
        skip = self.kept.place.batch if self.kept else 0
        if skip:
            generators.restore(self._of_rank("epoch_generators"), self.learn.dls)
        self.epoch_generators = generators.capture(self.learn.dls)
        self.changes.begin_batches(self.learn)
        numbered = enumerate(self.learn.dl)
        for _ in range(skip):
            # Load them, because later items may depend on random numbers drawn for these.
            next(numbered)
        if skip:
            self._restore_within()
        self.kept = None
        yield from numbered

    # -- writing -------------------------------------------------------------------------

    def after_batch(self) -> None:
        """Write a checkpoint if the policy or a signal requires it."""
        if not self.learn.training:
            return
        due = self.policy.due_after_batch(self.learn.train_iter, self.written_at)
        due_anywhere, stop = self.ranks.most(int(due), stopping.asked())
        if due_anywhere or stop:
            self.write(self._at(self.learn.epoch, self.learn.iter + 1))
        if stop:
            stopping.leave(self.place.name)

    def after_epoch(self) -> None:
        """Write a checkpoint at the end of an epoch, except the last; `after_fit` writes that."""
        self.kept = None
        self.changes.end_epoch(self.learn)
        epoch = self.learn.epoch
        # A start from there would have no validation of which the end of the fit shows anything.
        if epoch + 1 >= self.learn.n_epoch:
            return
        stop = self._is_asked()
        if stop or self.policy.due_after_epoch(epoch):
            self.write(self._at(epoch + 1, 0))
        if stop:
            stopping.leave(self.place.name)

    def after_fit(self) -> None:
        """Write the end of the fit, so that a later start need not repeat it."""
        end = dataclasses.replace(self.place, done=True, epoch=self.learn.n_epoch, batch=0)
        self.write(end)
        if self._is_asked():
            stopping.leave(end.name)

    def _is_asked(self) -> bool:
        """Whether any process is to stop, now that an epoch or the fit has ended."""
        (stop,) = self.ranks.most(stopping.asked() or reporting.pause_is_asked())
        return bool(stop)

    def _at(self, epoch: int, batch: int) -> Position:
        return dataclasses.replace(self.place, epoch=epoch, batch=batch)

    def write(self, place: Position) -> None:
        """Write a checkpoint; a failure prints one line, and training continues."""
        self.place = dataclasses.replace(place, done=False)
        began = time.perf_counter()
        ranks = self.ranks.gather(self._own(place))
        if self.ranks.rank == 0:
            quietly("write a checkpoint", self._write, place, ranks, began)
        self.written_at = time.monotonic()

    def _own(self, place: Position) -> dict[str, Any]:
        return {
            "generators": generators.capture(self.learn.dls),
            "epoch_generators": self.epoch_generators if place.batch else None,
            "callbacks": snapshot.capture_own(self.learn, (CheckpointCallback, observe.Witness)),
            "witness": observe.state(),
            "logged": logged.capture(),
        }

    def _write(self, place: Position, ranks: list[Any], began: float) -> None:
        state = snapshot.capture(self.learn)
        about = {
            "format": FORMAT,
            "processes": self.ranks.size,
            "epochs": self.learn.n_epoch,
            "batches": len(self.learn.dls.train),
            "shapes": snapshot.shapes(self.learn.model),
        }
        state |= self._changes(place)
        entry = self.store.write(place, {**about, **state, "ranks": ranks})
        report_written(entry.path.name, entry.bytes, time.perf_counter() - began)

    def _changes(self, place: Position) -> dict[str, Any]:
        if place.done:
            return self.changes.after_fit(self.learn)
        if place.batch:
            return self.changes.in_epoch(self.learn)
        return self.changes.after_epoch(self.learn)


_written: dict[str, Any] = {"count": 0, "seconds": 0.0}


def report_written(file: str, size: int, seconds: float) -> None:
    """Report the newest checkpoint, with *size* in bytes, and the total time so far."""
    _written["count"] += 1
    _written["seconds"] = round(_written["seconds"] + seconds, 4)
    last = {"last": file, "last_bytes": size, "last_seconds": round(seconds, 4)}
    if reporting.rank() == 0:
        reporting.report("checkpoints", {**_written, **last})


def report_resumed(place: Position) -> None:
    """Print and report the checkpoint from which the training resumes."""
    if reporting.rank() == 0:
        sys.stderr.write(f"samerun: resuming from checkpoint {place.name}.\n")
        reporting.resumed({"checkpoint": place.name, "epoch": place.epoch, "batch": place.batch})
