"""
Learners of other libraries, where these are installed beside fastai.

They are no dependencies: ``pip install --no-deps --target FOLDER timm``, say, and FOLDER on
``PYTHONPATH``. tsai needs ``pyts imbalanced-learn psutil sklearn-compat numba llvmlite`` too,
transformers ``tokenizers regex typer``.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import wandb
from fastai.basics import Callback, Learner, accuracy, dispatch, set_seed
from fastai.data.all import CategoryBlock, DataBlock, IndexSplitter, TransformBlock
from fastai.vision.all import CrossEntropyLossFlat, TensorCategory, vision_learner

from ..conftest import training_state
from .oracle import VALID, column, fit, kind, learner, matrix, pictures, right

IN_CHILD = "SAMERUN_TEST_IN_CHILD"


def agree(logged, accuracy):
    """Say whether samples and confusion matrix tell the *accuracy* that validation came to."""
    counts = matrix(logged)
    hits = sum(count for (true, found), count in counts.items() if true == found)
    share = hits / sum(counts.values())
    return (
        share == pytest.approx(right(logged.table("Prediction_Samples"))) == pytest.approx(accuracy)
    )


def test_timm(run, finished, tmp_path):
    """A network of timm, by its name: the config has it, and what is shown is its validation's."""
    pytest.importorskip("timm", reason="timm is not installed")
    learn = vision_learner(pictures(tmp_path), "test_resnet", pretrained=False, metrics=accuracy)
    learn.logger = lambda *_: None
    said = fit(learn, 2, log_model=True)

    logged = finished(run)
    config = logged.config["Learner"]
    assert said == []
    assert (config["arch"], config["pretrained"]) == ("test_resnet", False)
    (model,) = (a for a in logged.artifacts if a.type == "model")
    assert agree(logged, model.metadata["accuracy"])  # the best one is loaded at the end


class ByName(Callback):
    """Hand the model what it wants by its names, and take its logits and its loss."""

    def before_batch(self):
        self.learn.xb = ({**self.xb[0], "labels": self.yb[0]},)

    def after_pred(self):
        self.learn.loss_grad, self.learn.pred = self.pred.loss, self.pred.logits

    def after_loss(self):
        self.learn.loss = self.learn.loss_grad.clone()


class Keywords(torch.nn.Module):
    """Call a model of transformers with keywords."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(**x)


def tokens(i):
    """Return a text of three tokens, the first of which tells its class."""
    ids = torch.tensor([5 + i % 2, 2, 3])
    return {"input_ids": ids, "attention_mask": torch.ones(3, dtype=torch.long)}


class OwnLoss(Learner):
    """Leave the loss to the model."""

    def _do_one_batch(self):
        self.pred = self.model(*self.xb)
        self("after_pred")
        self("after_loss")
        if self.training:
            self._do_grad_opt()


def test_transformers(run, finished, tmp_path):
    """A model that takes keywords and returns its loss has rows, charts and its own weights."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.BertConfig(vocab_size=10, intermediate_size=8, **sizes)
    block = DataBlock(
        (TransformBlock, CategoryBlock), get_x=tokens, get_y=kind,
        splitter=IndexSplitter(list(range(VALID, 2 * VALID))),
    )  # fmt: skip
    states = []
    for with_callback in (False, True):
        set_seed(0)
        dls = block.dataloaders(list(range(2 * VALID)), bs=4, num_workers=0, path=tmp_path)
        model = Keywords(transformers.BertForSequenceClassification(config))
        loss = CrossEntropyLossFlat()
        learn = learner(dls, model, loss, cls=OwnLoss, cbs=ByName())
        if with_callback:
            said = fit(learn, 2)
        else:
            learn.fit(2)
        states.append(training_state(learn))

    logged = finished(run)
    assert torch.equal(*states)
    assert len(logged.column("raw_loss")) == 4
    assert said == []
    assert agree(logged, learn.recorder.values[-1][-1])
    table = logged.table("Prediction_Samples")
    truths = {"5, 2, 3": "a", "6, 2, 3": "b"}
    assert [truths[ids] for ids in column(table, "input_ids")] == column(table, "Ground_Truth")


def test_tsai(run, finished, tmp_path):
    """Time series with the loaders of tsai: what is shown is what validation came to."""
    if importlib.util.find_spec("tsai") is None:
        pytest.skip("tsai is not installed")
    if IN_CHILD not in os.environ:
        # It changes fastai's loaders for all that run in the same process.
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        command += [f"{__file__}::test_tsai"]
        root, env = Path(__file__).parents[3], {**os.environ, IN_CHILD: "1"}
        done = subprocess.run(
            command, cwd=root, env=env, capture_output=True, text=True, timeout=300, check=False
        )
        assert (done.returncode, "1 passed" in done.stdout) == (0, True), done.stdout[-3000:]
        return
    tsai = importlib.import_module("tsai.basics")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 1, 12)).astype(np.float32)
    y = np.array(["up", "down"] * 20)
    x[y == "up"] += 3
    splits = (list(range(24)), list(range(24, 40)))
    learn = tsai.TSClassifier(
        x, y, splits=splits, path=str(tmp_path), arch="InceptionTime", arch_config={"nf": 2},
        tfms=[None, tsai.TSClassification()], metrics=accuracy, bs=8, train_metrics=False,
    )  # fmt: skip
    learn.logger = lambda *_: None

    @dispatch
    def wandb_process(x: tsai.TSTensor, y: TensorCategory, samples, outs, preds):
        pairs = zip(samples, outs, strict=True)
        rows = [[float(x.mean()), str(y), str(out)] for (x, y), (out,) in pairs]
        columns = ["Mean", "Ground_Truth", "Predictions"]
        return {"Prediction_Samples": wandb.Table(columns=columns, data=rows)}

    said = fit(learn, 3)

    logged = finished(run)
    table = logged.table("Prediction_Samples")
    assert said == []
    assert len(logged.column("raw_loss")) == 9
    assert agree(logged, learn.recorder.values[-1][-1])
    assert {mean > 1.5 for mean in column(table, "Mean")} == {True, False}
    pairs = zip(column(table, "Mean"), column(table, "Ground_Truth"), strict=True)
    assert all((mean > 1.5) == (truth == "up") for mean, truth in pairs)
