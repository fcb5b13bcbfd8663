"""Trainings out of the ordinary."""

from __future__ import annotations

import copy
import threading

import pytest
import torch
import wandb
from fastai.basics import Callback, load_learner
from fastai.callback.fp16 import MixedPrecision
from fastai.callback.mixup import MixUp
from fastai.callback.training import GradientAccumulation, GradientClip, ShortEpochCallback
from fastai.losses import CrossEntropyLossFlat
from fastai.vision.all import DataBlock, ImageBlock, IndexSplitter, TransformBlock
from fastai.vision.gan import GANLearner
from torch.utils._python_dispatch import TorchDispatchMode

from samerun.callback.wandb import WandbCallback
from samerun.callback.warn import LoggingWarning

from .applications import PX, draw_image, make


def noise(item):
    """Return what a generator begins with."""
    return torch.full((4,), float(item))


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


def test_sweep(finished, learner, tmp_path, monkeypatch):
    """An agent's runs, each in a thread, share one callback; the sweep's values stay in config."""
    callback, logged = WandbCallback(log_preds=False, log="gradients"), []

    def trial(number):
        parameters = tmp_path / f"{number}.yaml"
        parameters.write_text(f"wandb_version: 1\nlr:\n  value: 0.{number}\n")
        monkeypatch.setenv("WANDB_SWEEP_ID", "abc")
        monkeypatch.setenv("WANDB_SWEEP_PARAM_PATH", str(parameters))
        wandb.teardown()  # so does the agent
        run = wandb.init(project="test")
        learner(cbs=callback).fit(1, lr=run.config.lr)
        logged.append(finished(run))

    for number in (1, 2):
        thread = threading.Thread(target=trial, args=(number,))
        thread.start()
        thread.join()
    monkeypatch.delenv("WANDB_SWEEP_ID")
    monkeypatch.delenv("WANDB_SWEEP_PARAM_PATH")
    wandb.teardown()  # else the runs of later tests would belong to the sweep

    assert [run.config["lr"] for run in logged] == [0.1, 0.2]
    assert [run.column("lr_0")[0] for run in logged] == [0.1, 0.2]
    assert [run.column("train_step") for run in logged] == [[0, 1, 2], [0, 1, 2]]
    assert all("gradients/0.weight" in run.rows[0] for run in logged)


def test_gan(run, finished, tmp_path):
    """A GAN, whose loss and optimizer switch, logs every step, and both of its losses."""
    block = DataBlock(
        blocks=(TransformBlock, ImageBlock), get_x=noise, get_y=draw_image,
        splitter=IndexSplitter([0, 1]),
    )  # fmt: skip
    dls = block.dataloaders(list(range(10)), bs=4, num_workers=0, path=tmp_path)
    generator = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(4, 3 * PX * PX), torch.nn.Unflatten(1, (3, PX, PX))
    )
    critic = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * PX * PX, 1))
    callback = WandbCallback(log="all", log_grad_norm=True)
    learn = GANLearner.wgan(dls, generator, critic, cbs=callback)
    learn.fit(2, lr=1e-3)

    logged = finished(run)
    assert [row["train_step"] for row in logged.rows if "raw_loss" in row] == list(range(4))
    assert len(logged.column("gen_loss")) == len(logged.column("crit_loss")) == 2


@pytest.mark.parametrize("how", ["export", "copy"])
def test_learner_leaves_within_a_fit(run, finished, learner, tmp_path, how):
    """A learner that is exported or copied while it trains can be used, and trains on."""
    copies = []

    class Leave(Callback):
        def after_epoch(self):
            if how == "export":
                self.learn.export(tmp_path / "left.pkl")
            else:
                copies.append(copy.deepcopy(self.learn))

    learn = learner(cbs=WandbCallback(log="all", log_preds=False))
    learn.fit(2, cbs=Leave())
    assert finished(run).column("train_step") == list(range(6))
    left = load_learner(tmp_path / "left.pkl") if how == "export" else copies[0]

    left.get_preds(dl=learn.dls.valid)
    other = wandb.init(project="test")
    left.dls = learn.dls
    left.fit(1)
    # An export leaves the callback out; a copy has it.
    steps = [] if how == "export" else [0, 1, 2]
    assert finished(other).column("train_step") == steps


def test_one_batch(run, finished, learner):
    """An epoch of one batch is one row, with losses and metrics."""
    learner(items=8, cbs=WandbCallback(log="all", log_preds=False)).fit(2)

    logged = finished(run)
    assert logged.column("train_step") == [0, 1]
    assert logged.column("epoch") == [1, 2]
    assert all({"raw_loss", "valid_loss", "gradients/0.weight"} <= set(r) for r in logged.rows)


def test_no_training_batch(run, finished, learner):
    """A training set smaller than a batch trains nothing; its metrics are logged all the same."""
    learner(items=8, bs=16, cbs=WandbCallback(log_preds=False)).fit(1)

    logged = finished(run)
    assert logged.column("train_step") == []
    assert len(logged.column("valid_loss")) == 1


def test_gradients_that_are_not_finite(run, finished, learner):
    """Histograms leave out what is not finite, or are left out; no step is lost."""
    loss = lambda pred, *_: pred.sum() * float("nan")  # noqa: E731
    learner(loss_func=loss, metrics=[], cbs=WandbCallback(log="all", log_preds=False)).fit(1)

    logged = finished(run)
    assert logged.column("train_step") == [0, 1, 2]
    assert not any("gradients/0.weight" in row for row in logged.rows)


def test_histograms_are_those_of_the_gradients(run, finished, learner):
    """Counts and range of a histogram are those of the gradient that the step used."""
    seen = []

    class See(Callback):
        def before_step(self):
            seen.append(self.model[0].weight.grad.clone())

    learner(cbs=[WandbCallback(log="gradients", log_preds=False, log_freq=1), See()]).fit(1)

    found = finished(run).column("gradients/0.weight")
    assert len(found) == len(seen) == 3
    for histogram, gradient in zip(found, seen, strict=True):
        assert sum(histogram["values"]) == gradient.numel()
        low, high = histogram["bins"][0], histogram["bins"][-1]
        assert (low, high) == pytest.approx((float(gradient.min()), float(gradient.max())))


def test_no_step_waits_for_the_device(run, learner):
    """
    Losses are not read in a step: they may be on a device where reading is impossible.

    A tensor on ``meta`` raises whatever copies it to the host.
    """
    clean = []

    class Hide(Callback):
        order = WandbCallback.order - 1

        def after_batch(self):
            self.kept = self.learn.loss, self.learn.smooth_loss
            if self.training:
                self.learn.loss = self.learn.smooth_loss = torch.empty((), device="meta")

    class Show(Callback):
        order = WandbCallback.order + 1

        def after_batch(self):
            self.learn.loss, self.learn.smooth_loss = self.learn.hide.kept
            clean.append(self.learn.wandb._session is None or not self.learn.wandb._warner._said)

    learn = learner(cbs=[WandbCallback(log_preds=False), Hide(), Show()])
    with pytest.warns(LoggingWarning, match="does not take rows"):  # once they are sent
        learn.fit(1)

    assert clean == [True] * 4


def test_no_event_of_a_step_reads_a_scalar(run, finished, learner):
    """Between hand-overs neither ``.item()`` nor ``float()`` of a tensor is called."""
    reads = []

    class Reads(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if func is torch.ops.aten._local_scalar_dense.default:
                reads.append(func)
            return func(*args, **(kwargs or {}))

    class Watched(WandbCallback):
        name = "wandb"

        def __call__(self, event):
            if event not in ("before_step", "after_batch"):
                return super().__call__(event)
            with Reads():
                return super().__call__(event)

    learner(cbs=Watched(log_preds=False, log_grad_norm=True)).fit(2)

    assert reads == []
    assert finished(run).column("train_step") == list(range(6))


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
