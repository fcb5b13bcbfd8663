"""Know when a fit begins and ends, and whether an event is of a fit."""

from __future__ import annotations

import contextlib
import functools
import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any

from fastai.callback.core import GatherPredsCallback
from fastai.callback.schedule import LRFinder
from fastai.callback.tracker import SaveModelCallback
from fastai.learner import Learner, Recorder

_numbers = itertools.count(1)
_open = threading.local()


class Fit:
    """One call of ``learn.fit``, and what is to be done however it ends."""

    def __init__(self, learn: Any) -> None:
        self.learn = learn
        # The same in all processes of a job, for they call `fit` equally often.
        self.number = next(_numbers)
        # How many `with learn:` the fit is in: their events are none of the fit's.
        self.within = 0
        self._acts: list[Callable[[], None]] = []

    def at_end(self, act: Callable[[], None]) -> None:
        """Call *act* when ``fit`` returns or raises, after all its events."""
        self._acts.append(act)

    def end(self) -> None:
        """Do what is to be done, the newest first."""
        while self._acts:
            self._acts.pop()()


def current_fit(learn: Any) -> Fit | None:
    """Return the innermost call of ``learn.fit`` that this thread is in."""
    return next((fit for fit in reversed(_fits()) if fit.learn is learn), None)


def hear_fits() -> None:
    """
    Extend ``Learner.fit``, once.

    fastai calls no event for an exception that ends a fit, nor for one that a callback raises
    in ``after_epoch`` or ``after_fit`` before others had their turn.
    """
    original = Learner.fit
    if getattr(original, "_samerun_hears", False):
        return

    @functools.wraps(original)
    def fit(self: Any, *args: Any, **kwargs: Any) -> Any:
        opened = Fit(self)
        _fits().append(opened)
        with _bound(self):
            try:
                return original(self, *args, **kwargs)
            finally:
                opened.end()
                _fits().remove(opened)

    fit._samerun_hears = True  # type: ignore[attr-defined]
    Learner.fit = fit


@contextlib.contextmanager
def _bound(learn: Any) -> Iterator[None]:
    """
    Let callbacks that follow fits look at *learn*, which fits, though another one has them too.

    fastai leaves a callback with the learner that it was added to last, also if it is in two.
    """
    shared = [
        (callback, callback.learn)
        for callback in vars(learn).get("cbs", ())
        if getattr(type(callback), "follows_fits", False) and callback.learn is not learn
    ]
    for callback, _ in shared:
        callback.learn = learn
    try:
        yield
    finally:
        for callback, before in shared:
            callback.learn = learn if before is None else before


def infers(learn: Any) -> bool:
    """Say whether these are the events of validate, get_preds, predict or tta."""
    # Only what the learner itself has: `hasattr(learn, ...)` asks the model as well.
    lock = vars(learn).get("lock")
    locked = lock is not None and lock.locked()
    return locked or any(isinstance(cb, GatherPredsCallback) for cb in learn.cbs)


def finds_rates(learn: Any) -> bool:
    """Say whether this is the fit of ``lr_find``."""
    return any(isinstance(cb, LRFinder) for cb in learn.cbs)


def recorder_of(learn: Any) -> Any | None:
    """Return fastai's recorder, if the learner has one."""
    return next((cb for cb in learn.cbs if isinstance(cb, Recorder)), None)


def saver_of(learn: Any) -> Any | None:
    """Return the callback that saves the model, the last one if there are several."""
    savers = [cb for cb in learn.cbs if isinstance(cb, SaveModelCallback)]
    return savers[-1] if savers else None


def _fits() -> list[Fit]:
    if not hasattr(_open, "fits"):
        _open.fits = []
    fits: list[Fit] = _open.fits
    return fits


def validation_loader(dls: Any) -> Any | None:
    """Return the loader of the validation set, also of what is no ``DataLoaders`` of fastai."""
    loaders = getattr(dls, "loaders", None)
    if loaders is None:
        return getattr(dls, "valid", None)
    return loaders[1] if len(loaders) > 1 else None


def validates(learn: Any) -> bool:
    """Say whether there is something to validate on; loaders of other libraries can't tell."""
    try:
        valid = validation_loader(learn.dls)
        return valid is not None and len(valid) > 0
    except Exception:
        return True
