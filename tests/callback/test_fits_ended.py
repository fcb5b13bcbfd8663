"""Fits that an exception, a signal or a callback ends: what they have shown is logged."""

from __future__ import annotations

import pytest
import wandb
from fastai.basics import (
    Callback,
    CancelEpochException,
    CancelFitException,
    CancelTrainException,
)
from fastai.callback.tracker import EarlyStoppingCallback

from samerun.callback.wandb import WandbCallback

from .applications import make
from .conftest import Losses


@pytest.mark.parametrize("order", [0, 61, 80])
@pytest.mark.parametrize(
    "error", [CancelFitException, CancelEpochException, CancelTrainException, KeyboardInterrupt]
)
def test_the_step_after_which_a_callback_ends_it(run, learner, finished, error, order):
    """It was made: its row is there with its loss, once, whoever hears of its end first."""

    class Ends(Callback):
        def after_batch(self):
            if self.training and (self.epoch, self.iter) == (1, 1):
                raise error

    Ends.order = order
    truth = Losses()
    learn = learner(cbs=WandbCallback(log_preds=False))
    if error is KeyboardInterrupt:
        with pytest.raises(error):
            learn.fit(3, cbs=[Ends(), truth])
    else:
        learn.fit(3, cbs=[Ends(), truth])

    logged = finished(run)
    assert logged.column("raw_loss") == pytest.approx(truth.train)
    assert logged.column("train_step") == list(range(len(truth.train)))
    epochs = {CancelEpochException: [1, 3], CancelTrainException: [1, 2, 3]}.get(error, [1])
    assert [row["epoch"] for row in logged.rows if "valid_loss" in row] == epochs


class Broken(Exception):
    """What ends a training."""


class Raise(Callback):
    """Raise *error* at *event* of the second epoch, or at the end."""

    def __init__(self, event, order, error):
        self.order, self._error, self._count = order, error, 0
        setattr(self, event, self._raise)

    def _raise(self):
        self._count += 1
        if self.learn.epoch == 1:
            raise self._error


# Event: the rows of steps, and those with metrics, that a fit of two epochs has by then.
EVENTS = {
    "before_epoch": (3, 1),
    "before_train": (3, 1),
    "before_batch": (3, 1),
    "after_pred": (3, 1),
    "after_step": (4, 1),
    "after_train": (6, 1),
    "before_validate": (6, 1),
    "after_epoch": (6, 2),
    "after_fit": (6, 2),
}


@pytest.mark.parametrize("order", [0, 61, 80])
@pytest.mark.parametrize("event", EVENTS)
def test_rows_of_a_fit_that_an_exception_ends(run, learner, finished, event, order):
    """Every step that was made and every metric that was computed, once; then as if new."""
    learn = learner(cbs=WandbCallback(log_preds=False))
    before = [type(cb) for cb in learn.cbs]
    with pytest.raises(Broken):
        learn.fit(2, cbs=Raise(event, order, Broken("enough")))

    logged = finished(run)
    assert (len(logged.column("raw_loss")), len(logged.column("valid_loss"))) == EVENTS[event]
    other = wandb.init(project="test")
    learn.fit(1)
    logged = finished(other)
    assert logged.column("epoch") == pytest.approx([1 / 3, 2 / 3, 1])
    assert len(logged.column("valid_loss")) == 1
    assert [type(cb) for cb in learn.cbs] == before


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("out of memory")])
@pytest.mark.parametrize("event", ["before_batch", "after_train"])
def test_no_metrics_of_an_earlier_epoch(run, learner, finished, event, error):
    """An epoch that breaks before its validation has none."""
    learn = learner(cbs=WandbCallback(log_preds=False))
    with pytest.raises(type(error)):
        learn.fit(2, cbs=Raise(event, 5, error))

    assert [row["epoch"] for row in finished(run).rows if "valid_loss" in row] == [1]


def test_a_callback_of_a_broken_fit_leaves_nothing_in_the_learner(run, learner):
    """Neither the saver that it added nor its hold on the recorder."""
    learn = learner()
    with pytest.raises(Broken):
        learn.fit(2, cbs=[WandbCallback(log_model=True), Raise("after_fit", 5, Broken("enough"))])

    assert [type(cb).__name__ for cb in learn.cbs] == [type(cb).__name__ for cb in learner().cbs]
    assert not {"after_train", "after_validate"} & vars(learn.recorder).keys()


@pytest.mark.parametrize("order", [62, 75])
def test_table_of_the_epoch_that_a_cancelled_fit_ends_with(run, tmp_path, finished, order):
    """`log_preds_every_epoch` has a table of each epoch that was validated."""

    class Cancel(Callback):
        def after_epoch(self):
            if self.epoch == 1:
                raise CancelFitException

    Cancel.order = order
    make("tabular", tmp_path).fit(4, cbs=[WandbCallback(log_preds_every_epoch=True), Cancel()])

    logged = finished(run)
    assert [row["epoch"] for row in logged.rows if "Prediction_Samples" in row] == [1, 2]


def test_table_after_early_stopping(run, tmp_path, finished):
    """Also where fastai itself stops the fit."""
    learn = make("tabular", tmp_path)
    stop = EarlyStoppingCallback(min_delta=100, patience=1)
    learn.fit(4, cbs=[WandbCallback(log_preds_every_epoch=True), stop])

    logged = finished(run)
    epochs = len(learn.recorder.values)
    assert [row["epoch"] for row in logged.rows if "Prediction_Samples" in row] == list(
        range(1, epochs + 1)
    )
