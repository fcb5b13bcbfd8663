"""
Extend ``Learner`` so that every fit writes checkpoints, without changes to scripts.

Installed by the container's hook if `contract.ENV_CHECKPOINTS` is set, after the import of
``fastai.learner``, with which every script trains.
"""

import functools
import sys
from typing import Any

import torch
from fastai.callback.core import CancelEpochException
from fastai.losses import BaseLoss
from fastai.torch_core import default_device

from samerun.core import checkpoint_policy
from samerun.train.checkpoint import changes, generators, history, logged, snapshot, stopping
from samerun.train.checkpoint.callback import CheckpointCallback, report_resumed
from samerun.train.checkpoint.history import History, Kept
from samerun.train.checkpoint.ranks import SingleProcess, ranks
from samerun.train.hooks import observe
from samerun.train.report import reporting


def install(learner: Any) -> None:
    """Extend the ``Learner`` of the module ``fastai.learner``."""
    policy = checkpoint_policy.from_environment()
    if policy is None or not reporting.is_recorded():
        return
    cls, past = learner.Learner, History(policy)
    cls.fit = _fit(cls.fit, past)
    cls._do_fit = _do_fit(cls._do_fit)
    cls.all_batches = _all_batches(cls.all_batches)


def _fit(original: Any, past: History) -> Any:
    @functools.wraps(original)
    def fit(self: Any, n_epoch: int, *args: Any, cbs: Any = None, **kwargs: Any) -> Any:
        if _finds_rates(self, cbs) or _callback(self) is not None:
            return original(self, n_epoch, *args, cbs=cbs, **kwargs)
        place, group = past.begin(self), ranks(self)
        store = past.store(shared=group.size > 1)
        if past.is_superseded(place, store, group):
            return None
        checkpoint = past.kept(place, store, group)
        if checkpoint is not None and checkpoint.place.done:
            return _restore_end(self, checkpoint, n_epoch, group)
        entry = changes.Observed(self)
        callback = CheckpointCallback(place, checkpoint, store, group, past.policy, entry)
        with self.added_cbs(callback), stopping.heard():
            return original(self, n_epoch, *args, cbs=cbs, **kwargs)

    return fit


def _finds_rates(learn: Any, cbs: Any) -> bool:
    """Whether this is the fit of ``lr_find``, which restores the model; a new start repeats it."""
    # Not imported, because fastai's schedules import the learner, which is loaded first.
    schedule = sys.modules.get("fastai.callback.schedule")
    added = cbs if isinstance(cbs, list | tuple) else [cbs]
    return schedule is not None and any(
        isinstance(cb, schedule.LRFinder) for cb in [*added, *learn.cbs]
    )


def _restore_end(learn: Any, checkpoint: Kept, n_epoch: int, group: SingleProcess) -> None:
    """Restore the learner's state at the end of a completed fit, without training."""
    _to_device(learn)
    if not learn.opt:
        learn.create_opt()
    learn.n_epoch = n_epoch
    history.check_fits(checkpoint.place, checkpoint.state, learn, n_epoch, group.size)
    own = history.of_rank(checkpoint.state, group.rank)
    snapshot.restore(learn, dict(checkpoint.state))
    changes.restore(learn, checkpoint.state["values"])
    snapshot.restore_own(learn, dict(checkpoint.state), own["callbacks"])
    generators.restore(own["generators"], learn.dls)
    logged.restore(own)
    if group.rank == 0:
        observe.load_state(own["witness"])
    report_resumed(checkpoint.place)


def _to_device(learn: Any) -> None:
    """Move model and loss as the fit would; the optimizer's state follows the parameters."""
    device = getattr(learn.dls, "device", default_device())
    for part in (learn.model, learn.loss_func):
        if isinstance(part, torch.nn.Module | BaseLoss):
            part.to(device)


def _do_fit(original: Any) -> Any:
    @functools.wraps(original)
    def do_fit(self: Any) -> None:
        callback = _callback(self)
        if callback is None or not callback.first_epoch:
            original(self)
            return
        bar = getattr(getattr(self, "progress", None), "mbar", None)
        if bar is not None:
            bar.update(0)  # Otherwise a bar that begins at a later epoch has no start time.
        for epoch in range(callback.first_epoch, self.n_epoch):
            self.epoch = epoch
            self._with_events(self._do_epoch, "epoch", CancelEpochException)

    return do_fit


def _all_batches(original: Any) -> Any:
    @functools.wraps(original)
    def all_batches(self: Any) -> None:
        callback = _callback(self)
        if callback is None or not (self.training and self.model.training):
            original(self)
            return
        self.n_iter = len(self.dl)
        for number, batch in callback.batches():
            self.one_batch(number, batch)

    return all_batches


def _callback(learn: Any) -> CheckpointCallback | None:
    return next((cb for cb in learn.cbs if isinstance(cb, CheckpointCallback)), None)
