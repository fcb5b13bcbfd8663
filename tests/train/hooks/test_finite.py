"""``--stop-on-nan``."""

from types import SimpleNamespace

import pytest
import torch

from samerun.core.errors import NotFinite
from samerun.train.hooks.finite import SCALED, Finite


def check(callback, loss, scaler=None):
    callback.learn = SimpleNamespace(loss=torch.tensor(loss), scaler=scaler, epoch=0, iter=3)
    callback.after_loss()


def test_loss_that_is_not_finite_ends_the_training():
    """At the first batch, and the message names it."""
    with pytest.raises(NotFinite, match="The loss is inf in epoch 0, batch 3"):
        check(Finite(), float("inf"))


def test_gradient_scaler_may_leave_out_some_steps():
    """It recovers from single batches; from as many in a row, the training does not."""
    scaler = torch.amp.GradScaler("cpu")
    callback = Finite()
    for loss in [*[float("inf")] * SCALED, 1.0, *[float("nan")] * SCALED]:
        check(callback, loss, scaler)

    with pytest.raises(NotFinite):
        check(callback, float("nan"), scaler)


def test_scaler_of_bfloat16_leaves_out_nothing():
    """fastai creates one in that case, too, but disabled."""
    with pytest.raises(NotFinite):
        check(Finite(), float("nan"), torch.amp.GradScaler("cpu", enabled=False))
