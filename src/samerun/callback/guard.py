"""Notice exceptions that end a training: fastai calls no event for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastai.callback.core import CancelEpochException, CancelFitException


class EpochGuard:
    """Stand in for ``learn._do_epoch``, and call *abort* before an exception leaves it."""

    def __init__(self, epoch: Callable[[], None], abort: Callable[[], None]) -> None:
        self._epoch, self._abort = epoch, abort

    def __call__(self) -> None:
        """Train and validate one epoch."""
        try:
            self._epoch()
        except (CancelEpochException, CancelFitException):
            raise
        except BaseException:
            self._abort()
            raise

    @classmethod
    def install(cls, learn: Any, abort: Callable[[], None]) -> None:
        """Put a guard on *learn*, in place of one that may be there."""
        cls.remove(learn)
        learn._do_epoch = cls(learn._do_epoch, abort)

    @staticmethod
    def remove(learn: Any) -> None:
        """Take the guard off."""
        if isinstance(vars(learn).get("_do_epoch"), EpochGuard):
            del learn._do_epoch
