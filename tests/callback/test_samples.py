"""What is shown: right colors, right names, right places, and a warning where it can't be."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import wandb
from fastai.data.core import Datasets
from fastai.data.transforms import Categorize
from fastai.imports import dispatch
from fastai.torch_core import TensorBase, TensorCategory
from fastai.vision.all import (
    CategoryBlock,
    CrossEntropyLossFlat,
    DataBlock,
    ImageBlock,
    IndexSplitter,
    Learner,
    Normalize,
    imagenet_stats,
)
from PIL import Image

from samerun.callback.media.charts import charts
from samerun.callback.media.images import to_mask_image
from samerun.callback.wandb import WandbCallback
from samerun.callback.warn import LoggingWarning

from .applications import APPLICATIONS, ITEMS, draw_image, draw_label, make
from .test_applications import column, logged_by


def fit(learn, callback=WandbCallback, **options):
    """Fit with the callback; return what it warned of."""
    cbs = callback(**options) if callback else None
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        learn.fit(1, cbs=cbs)
    return [str(w.message) for w in said if issubclass(w.category, LoggingWarning)]


def keys(logged):
    """Return all keys that a run has logged."""
    return {key for row in logged.rows for key in row}


def names_of(logged, value):
    """Return the names of the classes of an image's masks or boxes, by their ids."""
    classes = json.loads(logged.media(value["classes"]).read_text())["class_set"]
    return {item["id"]: item["name"] for item in classes}


def test_colors_are_those_before_normalizing(run, finished, tmp_path):
    """Images that are normalized for the model are shown as they are in the data."""
    block = DataBlock(
        blocks=(ImageBlock, CategoryBlock),
        get_x=draw_image,
        get_y=draw_label,
        splitter=IndexSplitter([3]),
        batch_tfms=Normalize.from_stats(*imagenet_stats),
    )
    dls = block.dataloaders(list(range(ITEMS)), bs=3, num_workers=0, path=tmp_path)
    body = make("classification", tmp_path).model
    fit(Learner(dls, body, loss_func=CrossEntropyLossFlat(), cbs=None))

    logged = finished(run)
    (value,) = column(logged.table("Prediction_Samples"), "Input image")
    pixels = np.array(Image.open(logged.media(value))).astype(int)
    assert np.abs(pixels - np.array(draw_image(3))).max() <= 1


def test_regression_shows_numbers(run, finished, tmp_path):
    """A predicted number is a number in the table, so that W&B can sort by it."""
    logged = logged_by("image_regression", run, finished, tmp_path)

    table = logged.table("Prediction_Samples")
    assert {type(v) for v in column(table, "Predictions")} == {float}
    assert {type(v) for v in column(table, "Ground_Truth")} == {float}


def test_masks_name_all_classes(run, finished, tmp_path):
    """The masks of all rows know each class by its name."""
    logged = logged_by("segmentation", run, finished, tmp_path)

    table = logged.table("Prediction_Samples")
    for name in ("Ground_Truth", "Predictions"):
        for value in column(table, name):
            assert names_of(logged, value) == {0: "void", 1: "thing"}


def test_images_made_from_images(run, finished, tmp_path):
    """True and predicted images are images, and the true one is that of the data."""
    logged = logged_by("image_to_image", run, finished, tmp_path)

    for source, truth, predicted in logged.table("Prediction_Samples")["data"]:
        pixels = [np.array(Image.open(logged.media(v))) for v in (source, truth, predicted)]
        assert np.array_equal(pixels[0], pixels[1])
        assert pixels[2].shape == pixels[0].shape


class NamedBoxes(torch.nn.Module):
    """Predict one box in the middle, always of class 1."""

    def __init__(self):
        super().__init__()
        self.corners = torch.nn.Parameter(torch.tensor([[-0.5, -0.5, 0.5, 0.5]]))

    def forward(self, x):
        classes = torch.tensor([[[0.0, 1.0]]]).repeat(len(x), 1, 1)
        return self.corners.repeat(len(x), 1)[:, None], classes


def test_boxes_with_predicted_classes(run, finished, tmp_path):
    """Where the model predicts boxes and their classes, both are shown."""
    learn = make("boxes", tmp_path)
    learn.model = NamedBoxes()
    learn.loss_func = lambda preds, boxes, labels: preds[0].pow(2).mean()
    said = fit(learn)

    logged = finished(run)
    value = column(logged.table("Prediction_Samples"), "Predictions")[0]
    (box,) = value["boxes"]["Prediction"]
    assert said == []
    assert box["box_caption"] == "square" == names_of(logged, value)[box["class_id"]]
    assert box["position"]["minX"] == pytest.approx(4, abs=0.2)


def test_boxes_without_classes_are_not_given_the_true_ones(run, finished, tmp_path):
    """A model of boxes alone has not predicted the name, so its boxes say ``object``."""
    logged = logged_by("boxes", run, finished, tmp_path)

    table = logged.table("Prediction_Samples")
    (box,) = column(table, "Predictions")[0]["boxes"]["Prediction"]
    assert box["box_caption"] == "object"
    for name in ("Ground_Truth", "Predictions"):
        sets = [names_of(logged, value) for value in column(table, name)]
        assert sets == [{0: "object", 1: "square"}] * len(sets)


def test_curves_of_several_labels(run, finished, tmp_path):
    """Several labels per item give a curve for each label, and no confusion matrix."""
    logged = logged_by("multi_label", run, finished, tmp_path)

    assert {"roc_curve_table", "pr_curve_table", "Top_Losses"} <= keys(logged)
    assert "confusion_matrix_table" not in keys(logged)


@pytest.mark.parametrize("name", sorted(set(APPLICATIONS) - {"language_model", "boxes"}))
def test_items_of_highest_loss(run, finished, tmp_path, name):
    """Wherever each item has a loss, the greatest come last in the run, in falling order."""
    logged = logged_by(name, run, finished, tmp_path)

    losses = column(logged.table("Top_Losses"), "Loss")
    assert losses == sorted(losses, reverse=True)
    assert len(losses) > 3


def test_losses_are_those_of_the_items(run, finished, tmp_path):
    """The loss beside an image is the model's loss of that image."""
    learn = make("image_regression", tmp_path)
    fit(learn)

    (_, truth, predicted, loss), *_ = finished(run).table("Top_Losses")["data"]
    assert loss == pytest.approx((truth - predicted) ** 2, rel=1e-3)


def test_given_items_take_no_chart_away(run, finished, tmp_path):
    """With ``valid_dl`` the charts are still of the validation set."""
    learn = make("classification", tmp_path)
    fit(learn, valid_dl=learn.dls.test_dl([2, 0], with_labels=True))

    logged = finished(run)
    assert len(logged.table("Prediction_Samples")["data"]) == 2
    assert len(logged.table("Top_Losses")["data"]) == ITEMS // 2


def test_curves_are_of_their_own_class():
    """A class without an item takes no other class's curve away (wandb.plot's would)."""
    truth = TensorCategory([0, 2, 0, 2])
    probs = torch.eye(3)[[0, 2, 0, 2]]

    found = charts([["a", "b", "c"]], (truth,), probs, truth)

    rows = found["roc_curve"]().table.data
    assert {row[0] for row in rows} == {"a", "c"}
    assert ["c", 0.0, 1.0] in rows


def test_chart_that_fails_is_said_once(run, finished, tmp_path, monkeypatch):
    """Without scikit-learn each curve costs one warning that names it; the rest is logged."""
    monkeypatch.setitem(sys.modules, "sklearn.metrics", None)
    learn = make("classification", tmp_path)
    learn.add_cb(WandbCallback())

    messages = fit(learn, None) + fit(learn, None)

    assert [m.partition(" (")[0] for m in messages] == [
        "W&B did not get the chart roc_curve",
        "W&B did not get the chart pr_curve",
    ]
    assert all("scikit-learn" in message for message in messages)
    assert {"confusion_matrix_table", "Top_Losses"} <= keys(finished(run))


def test_validation_items_of_one_class(run, finished, tmp_path):
    """Where a curve makes no sense, the warning says why."""
    learn = make("classification", tmp_path)
    learn.dls.loaders[1] = learn.dls.test_dl([0, 2, 4], with_labels=True)
    said = fit(learn)

    assert ["all 3 items are of one class" in message for message in said] == [True, True]


def test_own_type_of_a_real_learner(run, finished, tmp_path):
    """A function for a user's type, registered by fastai's dispatcher, logs what it returns."""

    class Sound(TensorBase):
        def show(self, ctx=None, **kwargs):
            return ctx

    @dispatch
    def wandb_process(x: Sound, y: TensorCategory, samples, outs, preds):
        data = [
            [float(s[0].sum()), str(s[1]), str(o[0])] for s, o in zip(samples, outs, strict=True)
        ]
        columns = ["sum", "Ground_Truth", "Predictions"]
        return {"Prediction_Samples": wandb.Table(columns=columns, data=data)}

    items = list(range(8))
    tfms = [
        [lambda i: Sound(torch.full((4,), float(i)))],
        [lambda i: ("low", "high")[i > 3], Categorize()],
    ]
    dls = Datasets(items, tfms, splits=[items, [1, 6]]).dataloaders(bs=4, num_workers=0)
    model = torch.nn.Linear(4, 2)
    said = fit(Learner(dls, model, loss_func=CrossEntropyLossFlat(), path=tmp_path))

    table = finished(run).table("Prediction_Samples")
    assert said == []
    assert sorted(row[:2] for row in table["data"]) == [[4.0, "low"], [24.0, "high"]]


def test_mask_values_without_a_name(run, finished, tmp_path):
    """A pixel that no class is known for, such as 255 for void, is shown with its number."""
    mask = torch.zeros(4, 4, dtype=torch.long)
    mask[0, 0] = 255
    shown = to_mask_image(torch.zeros(3, 4, 4), mask, "Ground_Truth", ["void", "thing"])
    table = wandb.Table(columns=["mask"], data=[[shown]])
    run.log({"t": table})

    logged = finished(run)
    (value,) = column(logged.table("t"), "mask")
    assert names_of(logged, value) == {0: "void", 1: "thing", 255: "class 255"}
    assert Path(logged.media(value["masks"]["Ground_Truth"])).is_file()


def test_loss_of_several_labels_is_their_mean(run, finished, tmp_path):
    """The loss of each item is the mean over its labels, and their mean is ``valid_loss``."""
    learn = make("multi_label", tmp_path)
    fit(learn)

    logged = finished(run)
    losses = column(logged.table("Top_Losses"), "Loss")
    assert sum(losses) / len(losses) == pytest.approx(logged.column("valid_loss")[0], rel=1e-5)
