"""
Extend ``Learner`` so that every fit is kept, in scripts that know nothing of it.

Installed by the container's hook, after fastai's learner, where `contract.ENV_CHECKPOINTS` is
set: whatever a script imports of fastai, it trains with that.
"""

import functools
import sys
from typing import Any

from fastai.callback.core import CancelEpochException

from samerun.core import checkpoint_policy
from samerun.train.checkpoint import generators, history, snapshot, stopping
from samerun.train.checkpoint.callback import CheckpointCallback, report_resumed
from samerun.train.checkpoint.history import History, Kept
from samerun.train.checkpoint.ranks import SingleProcess, ranks
from samerun.train.hooks import observe
from samerun.train.report import reporting


def install(learner: Any) -> None:
    """Extend the ``Learner`` of the module ``fastai.learner``."""
    wanted = checkpoint_policy.from_environment()
    if wanted is None or not reporting.is_recorded():
        return
    cls, past = learner.Learner, History(wanted)
    cls.fit = _fit(cls.fit, past)
    cls._do_fit = _do_fit(cls._do_fit)
    cls.all_batches = _all_batches(cls.all_batches)


def _fit(original: Any, past: History) -> Any:
    @functools.wraps(original)
    def fit(self: Any, n_epoch: int, *args: Any, cbs: Any = None, **kwargs: Any) -> Any:
        if _finds_rates(self, cbs) or _keeper(self) is not None:
            return original(self, n_epoch, *args, cbs=cbs, **kwargs)
        place, together = past.begin(self), ranks(self)
        store = past.store(shared=together.size > 1)
        if past.is_superseded(place, store, together):
            return None
        kept = past.kept(place, store, together)
        if kept is not None and kept.place.done:
            return _bring_to_its_end(self, kept, n_epoch, together)
        keeper = CheckpointCallback(place, kept, store, together, past.policy)
        with self.added_cbs(keeper), stopping.heard():
            return original(self, n_epoch, *args, cbs=cbs, **kwargs)

    return fit


def _finds_rates(learn: Any, cbs: Any) -> bool:
    """Whether this fit is ``lr_find``'s: it undoes itself, and is done again by a new start."""
    # Looked up, not imported: fastai's schedules import the learner, which is loaded first.
    schedule = sys.modules.get("fastai.callback.schedule")
    given = cbs if isinstance(cbs, list | tuple) else [cbs]
    return schedule is not None and any(
        isinstance(cb, schedule.LRFinder) for cb in [*given, *learn.cbs]
    )


def _bring_to_its_end(learn: Any, kept: Kept, n_epoch: int, together: SingleProcess) -> None:
    """Leave the learner as a fit that an earlier start completed did; nothing is trained."""
    if not learn.opt:
        learn.create_opt()
    learn.n_epoch = n_epoch
    history.check_fits(kept.place, kept.state, learn, n_epoch, together.size)
    own = history.of_rank(kept.state, together.rank)
    snapshot.restore(learn, dict(kept.state))
    snapshot.restore_own(learn, dict(kept.state), own["callbacks"])
    generators.restore(own["generators"], learn.dls)
    if together.rank == 0:
        observe.load_state(own["witness"])
    report_resumed(kept.place)


def _do_fit(original: Any) -> Any:
    @functools.wraps(original)
    def do_fit(self: Any) -> None:
        keeper = _keeper(self)
        if keeper is None or not keeper.first_epoch:
            original(self)
            return
        bar = getattr(getattr(self, "progress", None), "mbar", None)
        if bar is not None:
            bar.update(0)  # Else a bar that begins later has no start to count from.
        for epoch in range(keeper.first_epoch, self.n_epoch):
            self.epoch = epoch
            self._with_events(self._do_epoch, "epoch", CancelEpochException)

    return do_fit


def _all_batches(original: Any) -> Any:
    @functools.wraps(original)
    def all_batches(self: Any) -> None:
        keeper = _keeper(self)
        if keeper is None or not (self.training and self.model.training):
            original(self)
            return
        self.n_iter = len(self.dl)
        for number, batch in keeper.batches():
            self.one_batch(number, batch)

    return all_batches


def _keeper(learn: Any) -> CheckpointCallback | None:
    return next((cb for cb in learn.cbs if isinstance(cb, CheckpointCallback)), None)
