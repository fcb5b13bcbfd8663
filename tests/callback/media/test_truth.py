"""What is shown is what validation saw, computed and returned; nothing is computed twice."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fastai.vision.all import (
    Callback,
    CancelBatchException,
    CrossEntropyLossFlat,
    Learner,
    MixedPrecision,
    SaveModelCallback,
)
from PIL import Image

from ..conftest import generators, training_state
from .oracle import VALID, Oracle, column, fit, learner, matrix, picture, pictures, right

AGREES = {("a", "a"): VALID // 2, ("b", "b"): VALID // 2}


class Scaled(torch.nn.Module):
    """An oracle that needs numbers up to 255."""

    def __init__(self):
        super().__init__()
        self.oracle = Oracle()

    def forward(self, x):
        return self.oracle(x / 255)


class Scale(Callback):
    """Scale the inputs, as normalizations on the device do."""

    def before_batch(self):
        self.learn.xb = (self.xb[0] * 255,)


class ScaleInPlace(Callback):
    """Scale the inputs where they are."""

    def before_batch(self):
        self.xb[0].mul_(255)


def pixels(logged, table):
    """Return the pictures of a table."""
    return [np.array(Image.open(logged.media(v))).astype(int) for v in column(table, "Input image")]


@pytest.mark.parametrize("scale", [Scale, ScaleInPlace])
def test_inputs_that_a_callback_scales(run, finished, tmp_path, scale):
    """Predictions are those of the scaled inputs, the pictures those of the data."""
    learn = learner(pictures(tmp_path), Scaled(), CrossEntropyLossFlat(), cbs=scale())
    said = fit(learn)

    logged = finished(run)
    assert said == []
    assert logged.column("accuracy") == [1.0]
    assert matrix(logged) == AGREES
    for key in ("Prediction_Samples", "Top_Losses"):
        table = logged.table(key)
        assert right(table) == 1
        found = {tuple(image[0, ::7, 0]) for image in pixels(logged, table)}
        assert found == {tuple(np.array(picture(i))[0, ::7, 0]) for i in (0, 1)}


class Flip(Callback):
    """Mirror the pictures, in training and in validation."""

    def before_batch(self):
        self.learn.xb = (self.xb[0].flip(-1),)


def test_inputs_that_a_callback_turns_are_shown_as_the_model_got_them(run, finished, tmp_path):
    """What the model saw is the mirrored picture."""
    learn = learner(pictures(tmp_path), Oracle(), CrossEntropyLossFlat(), cbs=Flip())
    fit(learn)

    logged = finished(run)
    image = pixels(logged, logged.table("Prediction_Samples"))[0]
    assert image[0, 0, 0] > image[0, 7, 0]


class Returns(torch.nn.Module):
    """Return more than the logits, as a tuple or a dictionary."""

    def __init__(self, kind):
        super().__init__()
        self.oracle, self.kind = Oracle(), kind

    def forward(self, x):
        logits = self.oracle(x)
        return {"hidden": x, "logits": logits} if self.kind is dict else (x, logits)


class TakeLogits(Callback):
    """Keep the logits of what the model returned."""

    def after_pred(self):
        self.learn.pred = self.pred["logits"] if isinstance(self.pred, dict) else self.pred[1]


@pytest.mark.parametrize("kind", [tuple, dict])
def test_predictions_that_a_callback_takes_apart(run, finished, tmp_path, kind):
    """What ``after_pred`` leaves is the prediction."""
    learn = learner(pictures(tmp_path), Returns(kind), CrossEntropyLossFlat(), cbs=TakeLogits())

    assert fit(learn) == []
    logged = finished(run)
    assert matrix(logged) == AGREES
    assert right(logged.table("Prediction_Samples")) == 1


@pytest.mark.parametrize("kind", [tuple, dict])
def test_predictions_that_the_loss_takes_apart(run, finished, tmp_path, kind):
    """Of what the model returns, the part that fits the target is shown."""

    def loss(pred, y):
        logits = pred["logits"] if kind is dict else pred[1]
        return torch.nn.functional.cross_entropy(logits, y)

    learn = learner(pictures(tmp_path), Returns(kind), loss, metrics=None)

    assert fit(learn) == []
    logged = finished(run)
    assert matrix(logged) == AGREES
    assert right(logged.table("Prediction_Samples")) == 1


class ByKeywords(torch.nn.Module):
    """A model that takes keywords and returns its loss, as those of transformers do."""

    def __init__(self):
        super().__init__()
        self.oracle = Oracle()

    def forward(self, *, values, labels=None):
        logits = self.oracle(values)
        loss = torch.nn.functional.cross_entropy(logits, labels) if labels is not None else None
        return {"loss": loss, "logits": logits}


class KeywordLearner(Learner):
    """A learner that computes a batch in its own way."""

    def _do_one_batch(self):
        out = self.model(values=self.xb[0], labels=self.yb[0])
        self.pred, self.loss_grad = out["logits"], out["loss"]
        self.loss = self.loss_grad.clone()
        if self.training:
            self._do_grad_opt()


def test_learner_that_computes_a_batch_in_its_own_way(run, finished, tmp_path):
    """A model with keyword arguments has samples, charts and top losses."""
    loss = CrossEntropyLossFlat()
    learn = learner(pictures(tmp_path), ByKeywords(), loss, cls=KeywordLearner)

    assert fit(learn, valid_dl=learn.dls.test_dl([1, 0], with_labels=True)) == []
    logged = finished(run)
    assert matrix(logged) == AGREES
    assert column(logged.table("Prediction_Samples"), "Predictions") == ["b", "a"]


@pytest.mark.parametrize("every", [False, True])
def test_nothing_is_predicted_twice(run, tmp_path, every):
    """The model is asked once for each batch of training and validation."""
    learn = learner(pictures(tmp_path), Oracle(), CrossEntropyLossFlat())
    fit(learn, 3, log_preds_every_epoch=every)

    assert learn.model.asked == 3 * (len(learn.dls.train) + len(learn.dls.valid))


class Changing(torch.nn.Module):
    """Be right in the first epoch alone."""

    def __init__(self):
        super().__init__()
        self.oracle = Oracle()
        self.register_buffer("sign", torch.ones(1))

    def forward(self, x):
        return self.oracle(x) * self.sign


class Spoil(Callback):
    """Turn the answers round after the first epoch."""

    def before_epoch(self):
        if self.epoch == 1:
            self.model.sign.neg_()


def test_samples_are_of_the_model_that_was_loaded(run, finished, tmp_path):
    """Where the best model is loaded at the end, the validation of its epoch is shown."""
    cbs = [Spoil(), SaveModelCallback()]
    learn = learner(pictures(tmp_path), Changing(), CrossEntropyLossFlat(), cbs=cbs, path=tmp_path)
    fit(learn, 2)

    logged = finished(run)
    assert logged.column("accuracy") == [1.0, 0.0]
    assert right(logged.table("Prediction_Samples")) == 1
    assert matrix(logged) == AGREES


class Predict(Callback):
    """Use the learner within its fit."""

    def __init__(self, order):
        self.order = order

    def after_validate(self):
        if not self.learn.lock.locked():
            self.learn.get_preds(ds_idx=0, inner=True)


@pytest.mark.parametrize("order", [40, 90])
def test_other_predictions_within_a_fit_are_not_shown(run, finished, tmp_path, order):
    """What another callback predicts in between is none of the validation's."""
    learn = learner(pictures(tmp_path), Oracle(), CrossEntropyLossFlat(), cbs=Predict(order))
    fit(learn)

    logged = finished(run)
    assert sum(matrix(logged).values()) == VALID
    assert len(logged.table("Prediction_Samples")["data"]) == VALID


class SkipFirst(Callback):
    """Leave the first batch of the validation out."""

    def before_batch(self):
        if not self.training and self.iter == 0:
            raise CancelBatchException


def test_batch_that_is_left_out_is_not_shown(run, finished, tmp_path):
    """The predictions of another batch are not given to items that the model never saw."""
    learn = learner(pictures(tmp_path), Oracle(), CrossEntropyLossFlat(), cbs=SkipFirst())
    fit(learn)

    assert len(finished(run).table("Prediction_Samples")["data"]) == VALID - 4


class Counting(torch.nn.Module):
    """Count the batches in a buffer."""

    def __init__(self):
        super().__init__()
        self.oracle = Oracle()
        self.register_buffer("count", torch.zeros(1))

    def forward(self, x):
        self.count += 1
        return self.oracle(x)


@pytest.mark.parametrize("given", [False, True])
def test_a_model_with_state_stays_as_it_is(run, tmp_path, given):
    """Weights, buffers, the optimizer and the random state, also after items of ``valid_dl``."""
    states = []
    for with_callback in (False, True):
        torch.manual_seed(0)
        learn = learner(pictures(tmp_path), Counting(), CrossEntropyLossFlat())
        dl = learn.dls.test_dl([1, 0], with_labels=True) if given else None
        before = generators()
        if with_callback:
            fit(learn, 2, log_preds_every_epoch=True, valid_dl=dl)
        else:
            learn.fit(2)
        states.append((training_state(learn), before == generators()))
        assert [type(cb).__name__ for cb in learn.cbs] == [
            "TrainEvalCallback", "Recorder", "CastToTensor",
        ]  # fmt: skip

    assert torch.equal(states[0][0], states[1][0])


def test_given_items_end_where_enough_are_shown(run, finished, tmp_path):
    """The item that fills the table is in it, and the model is asked for no more."""
    learn = learner(pictures(tmp_path), Oracle(), CrossEntropyLossFlat())
    given = learn.dls.test_dl(list(range(6)), with_labels=True, bs=1)
    fit(learn, valid_dl=given, n_preds=3)

    assert column(finished(run).table("Prediction_Samples"), "Ground_Truth") == ["a", "b", "a"]
    assert learn.model.asked == len(learn.dls.train) + len(learn.dls.valid) + 3


class Holds(Callback):
    """A callback that has what it needs for a batch only during a fit, as mixed precision."""

    def before_fit(self):
        self.held = 1

    def before_batch(self):
        self.learn.xb = (self.xb[0] * self.held,)

    def after_fit(self):
        self.held = None


@pytest.mark.parametrize("cbs", [Holds, MixedPrecision])
def test_given_items_are_validated_after_the_fit_as_the_learner_does_it(
    run, finished, tmp_path, cbs
):
    """Callbacks get ready for it, and are as they were after it."""
    cb = cbs()
    learn = learner(pictures(tmp_path), Oracle(), CrossEntropyLossFlat(), cbs=cb)
    said = fit(learn, valid_dl=learn.dls.valid)

    logged = finished(run)
    assert said == []
    assert len(logged.table("Prediction_Samples")["data"]) == VALID
    assert getattr(cb, "held", None) is None
    assert getattr(cb, "autocast", None) is None


class Counts(torch.nn.CrossEntropyLoss):
    """A loss that keeps count of its calls, one in a buffer and one beside it."""

    def __init__(self):
        super().__init__()
        self.calls = 0
        self.register_buffer("batches", torch.zeros(1))

    def forward(self, preds, y):
        self.calls += 1
        self.batches += 1
        return super().forward(preds, y)


def test_a_loss_with_state_stays_as_it_is(run, finished, tmp_path):
    """The losses of the items are not asked of the learner's own function."""
    loss = Counts()
    learn = learner(pictures(tmp_path), Oracle(), loss)
    fit(learn, 2)

    batches = 2 * (len(learn.dls.train) + len(learn.dls.valid))
    assert (loss.calls, int(loss.batches)) == (batches, batches)
    assert len(finished(run).table("Top_Losses")["data"]) == VALID


class Penalty(Callback):
    """Add to the loss, of the validation too."""

    def after_loss(self):
        self.learn.loss = self.loss + 1


class Distance(Learner):
    """Have a loss that is not that of the loss function."""

    def _do_one_batch(self):
        self.pred = self.model(*self.xb)
        self("after_pred")
        self.loss_grad = self.pred.mean() ** 2
        self.loss = self.loss_grad.clone()
        if self.training:
            self._do_grad_opt()


@pytest.mark.parametrize(("cls", "cbs"), [(Distance, None), (Learner, Penalty)])
def test_no_losses_of_items_but_those_of_the_validation(run, finished, tmp_path, cls, cbs):
    """Where the learner's loss is not what its function gives, no other losses are shown."""
    learn = learner(
        pictures(tmp_path), Oracle(), CrossEntropyLossFlat(), cls=cls, cbs=cbs and cbs()
    )
    fit(learn)

    logged = finished(run)
    assert logged.tables("Top_Losses") == []
    assert right(logged.table("Prediction_Samples")) == 1
