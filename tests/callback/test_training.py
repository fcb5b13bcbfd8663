"""Trainings out of the ordinary."""

from __future__ import annotations

import pytest
import torch
import wandb
from fastai.basics import Callback
from fastai.callback.fp16 import MixedPrecision
from fastai.callback.mixup import MixUp
from fastai.callback.training import GradientAccumulation, GradientClip, ShortEpochCallback
from fastai.losses import CrossEntropyLossFlat

from samerun.callback.wandb import WandbCallback
from samerun.callback.warn import LoggingWarning

from .applications import make


@pytest.mark.parametrize("other", [MixUp, GradientClip, lambda: GradientAccumulation(16)])
def test_beside_other_callbacks(run, finished, learner, other):
    """Each batch has its row beside callbacks that change inputs, gradients or steps."""
    learner(loss_func=CrossEntropyLossFlat(), cbs=[other(), WandbCallback(log_preds=False)]).fit(2)

    assert finished(run).column("train_step") == list(range(6))


def test_mixed_precision(run, finished, tmp_path):
    """Predictions are made after training in half precision."""
    learn = make("classification", tmp_path)
    learn.add_cbs([MixedPrecision(amp_mode="bf16"), WandbCallback()])
    learn.fit(1)

    assert len(finished(run).column("Prediction_Samples")) == 1


def test_norm_of_the_gradients(run, finished, learner):
    """The norm of all gradients is in the row of its step, after clipping."""
    learner(cbs=[GradientClip(0.01), WandbCallback(log_preds=False, log_grad_norm=True)]).fit(1)

    assert finished(run).column("grad_norm") == pytest.approx([0.01] * 3, rel=1e-3)


def test_short_epoch(run, finished, learner):
    """An epoch that is cut short still has its metrics."""
    learner(cbs=[ShortEpochCallback(0.5), WandbCallback(log_preds=False)]).fit(1)

    assert "valid_loss" in finished(run).rows[-1]


def test_without_validation_items(run, finished, learner):
    """Without validation data there are rows, one warning for the samples, and a model."""
    learn = learner(cbs=None)
    learn.dls.loaders[1] = learn.dls.valid.new(torch.utils.data.Subset(learn.dls.train_ds, []))
    learn.add_cb(WandbCallback(log_model=True))
    with pytest.warns(LoggingWarning, match="prediction samples"):
        learn.fit(1)

    assert finished(run).column("train_step") == [0, 1, 2]


def test_model_without_a_table_warns_once(run, finished, learner):
    """Types that no table is known for cost one warning, which names the remedy."""
    learn = learner(cbs=WandbCallback(log_preds_every_epoch=True))
    with pytest.warns(LoggingWarning, match="@dispatch") as said:
        learn.fit(3)

    assert len([w for w in said if issubclass(w.category, LoggingWarning)]) == 1
    assert finished(run).column("train_step") == list(range(9))


def test_warnings_as_errors_end_no_training(run, learner):
    """Where warnings are errors, the fit still ends well."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("error", LoggingWarning)
        learner(cbs=WandbCallback()).fit(1)


def test_frozen_learner_is_described(run, finished, learner):
    """The config tells how many parameters are trained."""
    split = lambda m: [list(m[0].parameters()), list(m[2].parameters())]  # noqa: E731
    learn = learner(splitter=split, cbs=WandbCallback(log_preds=False))
    learn.freeze()
    learn.fit(1)

    config = finished(run).config
    assert config["frozen"]
    assert config["trainable parameters"] < config["model parameters"]


def test_tensor_hypers_are_numbers(run, finished, learner):
    """Hyper-parameters that a schedule keeps as tensors are logged as numbers."""

    class Tensors(Callback):
        def before_batch(self):
            self.opt.hypers[0]["lr"] = torch.tensor(0.01)

    learner(cbs=[Tensors(), WandbCallback(log_preds=False)]).fit(1)

    assert finished(run).column("lr_0") == pytest.approx([0.01] * 3)


def test_log_between_fits_keeps_its_place(run, finished, learner):
    """What the user logs between two fits stays between them."""
    learn = learner(cbs=WandbCallback(log_preds=False))
    learn.fit(1)
    wandb.log({"between": 1})
    learn.fit(1)

    assert [row["_step"] for row in finished(run).rows] == list(range(7))
