"""Other uses of a learner while it fits: the metrics and rows are those of the fit."""

from __future__ import annotations

import pytest
from fastai.basics import (
    Callback,
)

from samerun.callback.wandb import WandbCallback

from .conftest import Losses, make_learner


class Look(Callback):
    """Use the learner at *event*, as callbacks do that watch a training."""

    def __init__(self, what, event, order):
        self.what, self.order = what, order
        self._busy = False
        setattr(self, event, self._look)

    def _look(self):
        if self._busy:
            return  # what is called has these events, too
        self._busy = True
        LOOKS[self.what](self.learn)
        self._busy = False


def fit_another(learn):
    """Train another learner that logs to the same run."""
    make_learner(learn.path, cbs=WandbCallback(log_preds=False)).fit(1)


def enter(learn):
    """Begin and end what `validate` begins and ends."""
    with learn:
        pass


LOOKS = {
    "get_preds": lambda learn: learn.get_preds(),
    "get_preds(inner=True)": lambda learn: learn.get_preds(inner=True),
    "validate": lambda learn: learn.validate(),
    "validate(ds_idx=0)": lambda learn: learn.validate(ds_idx=0),
    "with learn": enter,
}


class Truth(Callback):
    """Keep what the recorder takes from each validation of the fit itself."""

    order = 50.5

    def __init__(self):
        self.losses, self.done = [], set()

    def after_validate(self):
        if not self.learn.lock.locked() and self.epoch not in self.done:
            self.done.add(self.epoch)
            self.losses.append(self.recorder.log[-2])


@pytest.mark.parametrize("order", [0, 55, 90])
@pytest.mark.parametrize("event", ["after_epoch", "before_epoch", "after_train", "after_validate"])
@pytest.mark.parametrize("what", LOOKS)
def test_metrics_are_those_of_the_fit(run, learner, finished, what, event, order):
    """Whatever else the learner is used for, each epoch has its own loss, row and number."""
    if (what, event, order) == ("get_preds(inner=True)", "before_epoch", 0):
        pytest.skip("fastai's recorder has no log yet, and raises")
    truth = Truth()
    learn = learner(cbs=WandbCallback(log_preds=False, log_model=True))
    learn.fit(2, cbs=[truth, Look(what, event, order)])

    logged = finished(run)
    assert len(logged.column("raw_loss")) == 6
    assert [row["epoch"] for row in logged.rows if "valid_loss" in row] == [1, 2]
    if event == "after_epoch":
        assert logged.column("valid_loss") == pytest.approx(truth.losses)
    assert len([a for a in logged.artifacts if a.type == "model"]) == 1


@pytest.mark.parametrize("order", [55, 90])
def test_a_fit_of_another_learner_within(run, learner, finished, order):
    """Both are logged, and neither loses a row."""
    learn = learner(cbs=WandbCallback(log_preds=False))
    learn.fit(2, cbs=Once(fit_another, order))

    logged = finished(run)
    assert sorted(logged.column("train_step")) == list(range(9))
    assert len(logged.column("valid_loss")) == 3


class Once(Callback):
    """Do something after the first epoch."""

    def __init__(self, act, order):
        self._act, self.order = act, order

    def after_epoch(self):
        if self.epoch == 0:
            self._act(self.learn)


def test_a_prediction_between_two_batches_leaves_no_false_loss(run, learner, finished):
    """The loss of what was predicted is not that of the step, which is there with its own."""

    class Predict(Callback):
        order = 55

        def after_batch(self):
            if self.training and self.iter == 1 and not self.learn.lock.locked():
                self.learn.get_preds()
                self.learn.training = True
                self.model.train()

    truth = Losses()
    learn = learner(cbs=WandbCallback(log_preds=False))
    learn.fit(1, cbs=[Predict(), truth])

    logged = finished(run)
    assert logged.column("train_step") == [0, 1, 2]
    assert logged.column("epoch") == pytest.approx([1 / 3, 2 / 3, 1])
    assert logged.column("raw_loss") == pytest.approx(truth.train)


@pytest.mark.parametrize("order", [45, 62, 75])
def test_a_validation_between_two_batches_is_not_that_of_the_epoch(run, learner, finished, order):
    """Callbacks that validate every few steps leave loss, place and metrics alone."""

    class Often(Callback):
        def after_batch(self):
            if self.training and self.iter != 1:
                dl = self.learn.dl
                self.learn._do_epoch_validate()
                self.learn.dl, self.learn.training = dl, True
                self.model.train()

    Often.order = order
    truth = Losses()
    callback = WandbCallback(log_preds=False, log_model=True)
    learner(cbs=callback).fit(2, 0.5, cbs=[Often(), truth])

    logged = finished(run)
    assert logged.column("raw_loss") == pytest.approx(truth.train)
    assert logged.column("valid_loss") == pytest.approx(truth.valid[2::3])
    assert logged.column("epoch") == pytest.approx([n / 3 for n in range(1, 7)])
    (model,) = (a for a in logged.artifacts if a.type == "model")
    assert model.metadata["valid_loss"] == pytest.approx(min(truth.valid[2::3]))
