"""``--stop-on-nan``: end a training whose loss is not a finite number."""

import functools
import os
from typing import Any

import torch
from fastai.callback.core import Callback

from samerun.core import contract
from samerun.core.errors import NotFinite
from samerun.train.report import reporting


def install(learner: Any) -> None:
    """Extend ``Learner.fit`` of the module ``fastai.learner``, if ``--stop-on-nan`` is given."""
    if os.environ.get(contract.ENV_STOP_ON_NAN) != "1" or not reporting.is_recorded():
        return
    original = learner.Learner.fit

    @functools.wraps(original)
    def fit(self: Any, *args: Any, **kwargs: Any) -> Any:
        with self.added_cbs(Finite()):
            return original(self, *args, **kwargs)

    learner.Learner.fit = fit


# A gradient scaler leaves out the steps of that many batches in a row, but not of more.
SCALED = 10


class Finite(Callback):
    """Check the loss before the optimizer's step; this waits for the device."""

    order, remove_on_fetch, run_valid = -1000, True, False
    in_a_row = 0

    def after_loss(self) -> None:
        """
        Refuse a loss that is not finite; with a gradient scaler, only several in a row.

        Raises:
            NotFinite: The loss is infinite or not a number.
        """
        learn = self.learn
        if hasattr(learn, "lr_finder"):
            return
        finite = bool(torch.isfinite(learn.loss.detach()).all())
        self.in_a_row = 0 if finite else self.in_a_row + 1
        if finite or (_is_scaled(learn) and self.in_a_row <= SCALED):
            return
        raise NotFinite(
            f"The loss is {float(learn.loss.mean())} in epoch {learn.epoch}, batch {learn.iter}.",
            "Lower the learning rate, or check the data of that batch.",
        )


def _is_scaled(learn: Any) -> bool:
    """Whether a gradient scaler leaves out the step of such a batch, e.g. with ``to_fp16``."""
    scaler = getattr(learn, "scaler", None)
    return scaler is not None and bool(scaler.is_enabled())
