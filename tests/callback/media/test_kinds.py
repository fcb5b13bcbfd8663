"""Losses, targets and inputs of all kinds: the table is there, and right."""

from __future__ import annotations

import functools
import random

import numpy as np
import pandas as pd
import pytest
import torch
from fastai.data.core import Datasets
from fastai.data.transforms import Categorize
from fastai.tabular.all import (
    Categorify,
    FillMissing,
    TabularDataLoaders,
    TabularPandas,
    tabular_learner,
)
from fastai.text.data import TensorText
from fastai.vision.all import (
    BCELossFlat,
    BCEWithLogitsLossFlat,
    CategoryBlock,
    CrossEntropyLossFlat,
    ImageBlock,
    MaskBlock,
    MultiCategoryBlock,
    PILMask,
    TitledStr,
    Transform,
)
from PIL import Image

from .oracle import VALID, Oracle, column, fit, learner, matrix, picture, pictures, right

F = torch.nn.functional
AGREES = {("a", "a"): VALID // 2, ("b", "b"): VALID // 2}


class NoActivation(torch.nn.CrossEntropyLoss):
    """A loss whose author switched the activation off."""

    activation = None


class LogProbabilities(Oracle):
    """Answer as ``nn.NLLLoss`` wants it."""

    def forward(self, x):
        return super().forward(x).log_softmax(1)


@pytest.mark.parametrize(
    ("loss", "model"),
    [
        (torch.nn.CrossEntropyLoss(), Oracle), (F.cross_entropy, Oracle),
        (lambda p, y: F.cross_entropy(p, y, reduction="mean"), Oracle), (NoActivation(), Oracle),
        (functools.partial(F.cross_entropy, label_smoothing=0.1), Oracle),
        (torch.nn.NLLLoss(), LogProbabilities),
    ],
    ids=["module", "function", "lambda", "none", "partial", "nll"],
)  # fmt: skip
def test_losses_of_pytorch(run, finished, tmp_path, loss, model):
    """Predictions are labels, and the confidence is a probability."""
    learn = learner(pictures(tmp_path), model(), loss)

    assert fit(learn) == []
    logged = finished(run)
    table = logged.table("Prediction_Samples")
    assert right(table) == 1
    assert all(0.99 < value <= 1 for value in column(table, "Confidence"))
    assert matrix(logged) == AGREES


class One(Oracle):
    """Answer with one number for two classes."""

    def __init__(self, sigmoid=False, column=True):
        super().__init__()
        self.sigmoid, self.column = sigmoid, column

    def forward(self, x):
        logits = super().forward(x)
        number = logits[:, 1:] - logits[:, :1]
        number = number.sigmoid() if self.sigmoid else number
        return number if self.column else number[:, 0]


@pytest.mark.parametrize(
    ("loss", "model"),
    [
        (BCEWithLogitsLossFlat(), One()),
        (BCELossFlat(), One(sigmoid=True)),
        (lambda p, y: F.binary_cross_entropy_with_logits(p, y.float()), One(column=False)),
    ],
    ids=["logits", "probabilities", "vector"],
)
def test_one_logit_for_two_classes(run, finished, tmp_path, loss, model):
    """Both classes have their names, a confusion matrix and curves."""
    learn = learner(pictures(tmp_path), model, loss, metrics=None)

    assert fit(learn) == []
    logged = finished(run)
    assert right(logged.table("Prediction_Samples")) == 1
    assert matrix(logged) == AGREES
    assert logged.tables("roc_curve_table")


def test_labels_that_are_numbers(run, finished, tmp_path):
    """One and several numbers per item stand in one column, as texts."""

    def numbers(i):
        return [1, 2] if i % 2 else [3]

    dls = pictures(tmp_path, (ImageBlock, MultiCategoryBlock), get_y=numbers)
    learn = learner(dls, Oracle(3), torch.nn.BCEWithLogitsLoss(), metrics=None)

    assert fit(learn) == []
    table = finished(run).table("Prediction_Samples")
    assert set(column(table, "Ground_Truth")) == {"1;2", "3"}


def test_items_without_labels(run, finished, tmp_path):
    """Given items without targets show the predictions, and no truth."""
    learn = learner(pictures(tmp_path), Oracle(), torch.nn.CrossEntropyLoss())

    assert fit(learn, valid_dl=learn.dls.test_dl([1, 0, 3])) == []
    table = finished(run).table("Prediction_Samples")
    assert column(table, "Predictions") == ["b", "a", "b"]
    assert column(table, "Ground_Truth") == [None] * 3


class TwoHeads(torch.nn.Module):
    """Tell the class, and another class of three."""

    def __init__(self):
        super().__init__()
        self.one, self.other = Oracle(), Oracle(3)

    def forward(self, x):
        return self.one(x), self.other(x)


def test_several_heads_and_targets(run, finished, tmp_path):
    """Each target has its columns, its class names and its charts."""
    blocks = (ImageBlock, CategoryBlock, CategoryBlock(vocab=["x", "y", "z"]))
    dls = pictures(tmp_path, blocks, n_inp=1, get_y=[lambda i: "ab"[i % 2], lambda i: "xy"[i % 2]])

    def loss(preds, one, other):
        return F.cross_entropy(preds[0], one) + F.cross_entropy(preds[1], other)

    said = fit(learner(dls, TwoHeads(), loss, metrics=None))

    logged = finished(run)
    table = logged.table("Prediction_Samples")
    assert said == []
    assert column(table, "Ground_Truth") == column(table, "Predictions")
    assert column(table, "Ground_Truth_2") == column(table, "Predictions_2")
    assert matrix(logged) == AGREES
    second = logged.table("confusion_matrix_2_table")["data"]
    assert {row[0] for row in second} == {"x", "y", "z"}


TEXTS = {"one": ["a man plays", "dogs sleep", "it rains"], "two": ["x y", "y z", "z x"]}


class Words(Transform):
    """Turn a text into numbers, with a vocabulary."""

    def __init__(self, name):
        self.texts = TEXTS[name] * 8
        self.vocab = sorted({word for text in self.texts for word in text.split()})

    def encodes(self, i: int):
        numbers = [self.vocab.index(word) for word in self.texts[i].split()]
        return TensorText(torch.tensor((numbers + [0] * 3)[:3]))

    def decodes(self, x: TensorText):
        return TitledStr(" ".join(self.vocab[int(n)] for n in x))


class OfTwo(torch.nn.Module):
    """Guess from two texts."""

    def __init__(self):
        super().__init__()
        self.words, self.out = torch.nn.Embedding(20, 4), torch.nn.Linear(8, 3)

    def forward(self, a, b):
        return self.out(torch.cat([self.words(a).mean(1), self.words(b).mean(1)], 1))


def test_class_names_are_the_targets(run, finished, tmp_path):
    """The vocabularies of two inputs are no classes; each input has its column."""
    items = list(range(24))
    tfms = [[Words("one")], [Words("two")], [lambda i: ("yes", "no", "maybe")[i % 3], Categorize()]]
    dls = Datasets(items, tfms, n_inp=2, splits=[items, items[:6]]).dataloaders(
        bs=8, num_workers=0, path=tmp_path
    )
    said = fit(learner(dls, OfTwo(), CrossEntropyLossFlat()))

    logged = finished(run)
    assert said == []
    assert {row[0] for row in logged.table("confusion_matrix_table")["data"]} == {
        "yes", "no", "maybe",
    }  # fmt: skip
    assert set(column(logged.table("Prediction_Samples"), "Input 1")) == {
        "a man plays", "dogs sleep a", "it rains a",
    }  # fmt: skip


def draw_mask(i):
    """Return a mask of the upper half."""
    mask = np.zeros((8, 8), np.uint8)
    mask[:4] = 1
    return PILMask.create(mask)


class UpperHalf(torch.nn.Module):
    """Answer with one channel, the upper half positive."""

    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x):
        rows = torch.linspace(9, -9, 8)[None, None, :, None]
        return rows.expand(len(x), 1, 8, 8) + 0 * self.w


@pytest.mark.parametrize(
    "loss",
    [
        BCEWithLogitsLossFlat(),
        lambda p, y: F.binary_cross_entropy_with_logits(p[:, 0], y.float()),
    ],
    ids=["fastai", "lambda"],
)
def test_masks_of_one_channel(run, finished, tmp_path, loss):
    """The predicted mask is the true one."""
    codes = MaskBlock(codes=["ground", "sky"])
    dls = pictures(tmp_path, (ImageBlock, codes), get_y=draw_mask)
    said = fit(learner(dls, UpperHalf(), loss, metrics=None))

    logged = finished(run)
    assert said == []
    for _, true, found in logged.table("Prediction_Samples")["data"]:
        masks = (true["masks"]["Ground_Truth"], found["masks"]["Prediction"])
        one, other = (np.array(Image.open(logged.media(mask))) for mask in masks)
        assert one.shape == other.shape == (8, 8)
        assert (one == other).all()


@pytest.mark.parametrize(
    "values", [[20.0, 30.0, np.nan], [1, 2, "old"], ["x", None, "y"], [True, False, True]], ids=str
)
def test_columns_of_numbers_and_words(run, finished, tmp_path, values):
    """A column of several types is shown, as texts where W&B takes one type only."""
    frame = pd.DataFrame({"kind": pd.Series(values * 20, dtype=object), "size": range(60)})
    frame = frame.assign(target=["p", "n", "n"] * 20)
    dls = TabularDataLoaders.from_df(
        frame, procs=[Categorify, FillMissing], cat_names=["kind"], cont_names=["size"],
        y_names="target", y_block=CategoryBlock(), bs=16, path=tmp_path,
    )  # fmt: skip
    said = fit(tabular_learner(dls, layers=[4]))

    table = finished(run).table("Prediction_Samples")
    assert said == []
    assert len(set(map(type, column(table, "kind"))) - {type(None)}) == 1


def test_pictures_of_several_sizes(run, finished, tmp_path):
    """Batches that can't be joined are decoded each, and each item keeps its place."""

    def sized(i):
        return picture(i).resize((8 + i, 8))

    learn = learner(pictures(tmp_path, get_x=sized, bs=1), Oracle(), CrossEntropyLossFlat())

    assert fit(learn, n_preds=5) == []
    table = finished(run).table("Prediction_Samples")
    assert right(table) == 1
    drawn = random.Random(12345).sample(range(VALID), 5)
    assert [v["width"] for v in column(table, "Input image")] == [8 + VALID + n for n in drawn]


class SideBySide(torch.nn.Module):
    """Answer for two columns of a table, in one of the forms that models have for it."""

    def __init__(self, form):
        super().__init__()
        self.form, self.w = form, torch.nn.Parameter(torch.zeros(1))

    def forward(self, _, numbers):
        logit = 9 * numbers + 0 * self.w
        one, other = torch.cat([-logit, logit], 1), torch.cat([logit, -logit], 1)
        return {
            "tuple": (one, other),
            "joined": torch.cat([one, other], 1),
            "stacked": torch.stack([one, other], 1),
            "binary": torch.cat([logit, -logit], 1),
        }[self.form]


@pytest.mark.parametrize("form", ["tuple", "joined", "stacked", "binary"])
def test_several_targets_of_a_table(run, finished, tmp_path, form):
    """Each column has its predictions, its class names and its charts."""
    frame = pd.DataFrame({"kind": ["x", "y", "z"] * 20, "size": [-0.5, 0.5] * 30})
    frame = frame.assign(one=["n", "y"] * 30, other=["y", "n"] * 30)
    table = TabularPandas(
        frame, [Categorify], ["kind"], ["size"], y_names=["one", "other"], y_block=CategoryBlock(),
        splits=[list(range(40)), list(range(40, 60))],
    )  # fmt: skip

    def loss(preds, y):
        if form == "binary":
            return F.binary_cross_entropy_with_logits(preds, y.float())
        if form != "tuple":
            preds = preds.reshape(len(y), 2, 2).unbind(1)
        return sum(F.cross_entropy(part, y[:, n].long()) for n, part in enumerate(preds))

    dls = table.dataloaders(bs=8, path=tmp_path)
    said = fit(learner(dls, SideBySide(form), loss, metrics=None))

    logged = finished(run)
    shown = logged.table("Prediction_Samples")
    assert said == []
    for name in ("one", "other"):
        assert column(shown, f"{name}_pred") == column(shown, name)
    assert matrix(logged) == {("n", "n"): 10, ("y", "y"): 10}
    second = logged.table("confusion_matrix_2_table")["data"]
    assert [row[:2] for row in second if row[2]] == [["n", "n"], ["y", "y"]]


def test_no_samples_are_wanted(run, finished, tmp_path):
    """`n_preds=0` leaves the tables out, not the charts, and says nothing."""
    learn = learner(pictures(tmp_path), Oracle(), CrossEntropyLossFlat())

    assert fit(learn, n_preds=0) == []
    logged = finished(run)
    assert logged.tables("Prediction_Samples") == logged.tables("Top_Losses") == []
    assert matrix(logged) == AGREES
