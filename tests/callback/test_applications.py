"""Every application of fastai: its table, and what every callback must survive with it."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from fastai.basics import load_learner
from PIL import Image

from samerun.callback.wandb import WandbCallback
from samerun.callback.warn import LoggingWarning

from .applications import APPLICATIONS, ITEMS, make
from .conftest import generators, training_state

VALID = ITEMS // 2


@pytest.fixture(autouse=True)
def no_logging_warnings():
    """Fail where the callback could not log something."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", LoggingWarning)
        yield


@pytest.mark.parametrize("name", APPLICATIONS)
def test_weights_are_the_same_with_predictions(run, tmp_path, name):
    """
    Training is bit-identical, predictions logged after each epoch or not at all.

    Parameters, buffers, the optimizer's state, and the random generators: what comes next
    would be the same as well.
    """
    trained = []
    for cbs in ([], [WandbCallback(log="all", log_grad_norm=True, log_preds_every_epoch=True)]):
        learn = make(name, tmp_path)
        learn.add_cbs(cbs)
        learn.fit(1)
        learn.fit(2)
        trained.append((training_state(learn), generators()))

    assert torch.equal(trained[0][0], trained[1][0])
    assert trained[0][1] == trained[1][1]


@pytest.mark.parametrize("name", APPLICATIONS)
def test_table_of_predictions(run, finished, tmp_path, name):
    """Each application logs one table at the end, with a row per item and no warning."""
    learn = make(name, tmp_path)
    learn.add_cb(WandbCallback(n_preds=5))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        learn.fit(1)

    assert [str(w.message) for w in said if issubclass(w.category, LoggingWarning)] == []
    logged = finished(run)
    assert len(logged.column("Prediction_Samples")) == 1
    assert len(logged.table("Prediction_Samples")["data"]) == 5


def logged_by(name, run, finished, tmp_path, **options):
    """Return what a fit of an application logs."""
    learn = make(name, tmp_path)
    learn.add_cb(WandbCallback(**options))
    learn.fit(1)
    return finished(run)


def column(table, name):
    """Return a column of a table."""
    return [row[table["columns"].index(name)] for row in table["data"]]


def test_images_are_those_of_the_validation_set(run, finished, tmp_path):
    """The pixels in the table are those of the items, and each has its own label."""
    logged = logged_by("classification", run, finished, tmp_path)

    table = logged.table("Prediction_Samples")
    first = [np.array(Image.open(logged.media(v)))[0, 0, 0] for v in column(table, "Input image")]
    items = [int(value) // 20 for value in first]
    assert sorted(items) == list(range(VALID, ITEMS))
    assert column(table, "Ground_Truth") == [("cat", "dog")[item % 2] for item in items]
    assert all(0.5 <= confidence <= 1 for confidence in column(table, "Confidence"))


def test_same_seed_shows_the_same_items(run, finished, tmp_path):
    """Two trainings show the same items in the same order; another seed shows others."""
    for seed in (1, 1, 2):
        learn = make("classification", tmp_path)
        learn.add_cb(WandbCallback(n_preds=4, seed=seed))
        learn.fit(1)

    logged = finished(run)
    tables = logged.tables("Prediction_Samples")
    digests = [[v["sha256"] for v in column(table, "Input image")] for table in tables]
    assert digests[0] == digests[1]
    assert digests[0] != digests[2]


def test_masks_have_the_names_of_their_classes(run, finished, tmp_path):
    """The true mask is that of the data, and both masks name the classes."""
    logged = logged_by("segmentation", run, finished, tmp_path)

    table = logged.table("Prediction_Samples")
    truth = column(table, "Ground_Truth")[0]["masks"]["Ground_Truth"]
    mask = np.array(Image.open(logged.media(truth)))
    assert mask.sum() == 25
    assert mask[4:9, 3:8].all()
    assert "Prediction" in column(table, "Predictions")[0]["masks"]


def test_boxes_are_in_pixels(run, finished, tmp_path):
    """The true box is where the data has it, with its label."""
    logged = logged_by("boxes", run, finished, tmp_path)

    image = column(logged.table("Prediction_Samples"), "Ground_Truth")[0]
    (box,) = image["boxes"]["Ground_Truth"]
    position = box["position"]
    assert [position[k] for k in ("minX", "minY", "maxX", "maxY")] == pytest.approx([3, 4, 8, 9])
    assert box["box_caption"] == "square"
    assert "Prediction" in column(logged.table("Prediction_Samples"), "Predictions")[0]["boxes"]


def test_points_are_drawn_where_they_are(run, finished, tmp_path):
    """The true points are drawn at the square's corners."""
    logged = logged_by("key_points", run, finished, tmp_path)

    pixels = np.array(
        Image.open(logged.media(column(logged.table("Prediction_Samples"), "Ground_Truth")[0]))
    )
    scale = len(pixels) // 16
    drawn = [
        tuple(pixels[int((y + 0.5) * scale), int((x + 0.5) * scale)]) for x, y in ((3, 4), (8, 9))
    ]
    assert drawn == [(0, 158, 115)] * 2


def test_labels_of_several_classes(run, finished, tmp_path):
    """All labels of an item are in one cell."""
    logged = logged_by("multi_label", run, finished, tmp_path)

    assert set(column(logged.table("Prediction_Samples"), "Ground_Truth")) == {
        "cat",
        "cat;dog",
        "dog",
    }


def test_names_of_categories_in_a_table(run, finished, tmp_path):
    """A table shows categories by name, and the prediction beside the target."""
    logged = logged_by("tabular", run, finished, tmp_path)

    table = logged.table("Prediction_Samples")
    assert table["columns"] == ["color", "size", "kind", "kind_pred"]
    assert set(column(table, "color")) <= {"red", "blue"}
    assert set(column(table, "kind_pred")) <= {"x", "y", "z"}


def test_words_of_a_language_model(run, finished, tmp_path):
    """A language model shows words, not numbers."""
    logged = logged_by("language_model", run, finished, tmp_path)

    row = logged.table("Prediction_Samples")["data"][0]
    assert all("film" in text or "xx" in text for text in row[:2])


@pytest.mark.parametrize("name", ["classification", "tabular", "text_classification"])
def test_charts_of_classifications(run, finished, tmp_path, name):
    """Classifications end with a confusion matrix, two curves and the items of highest loss."""
    logged = logged_by(name, run, finished, tmp_path)

    keys = {key for row in logged.rows for key in row}
    assert {"confusion_matrix_table", "roc_curve_table", "pr_curve_table", "Top_Losses"} <= keys
    losses = column(logged.table("Top_Losses"), "Loss")
    assert losses == sorted(losses, reverse=True)


def test_given_items_are_shown(run, finished, tmp_path):
    """The items of ``valid_dl`` are shown, in its order."""
    learn = make("classification", tmp_path)
    learn.add_cb(WandbCallback(valid_dl=learn.dls.test_dl([2, 0, 1], with_labels=True)))
    learn.fit(1)

    table = finished(run).table("Prediction_Samples")
    assert column(table, "Ground_Truth") == ["cat", "cat", "dog"]


def test_own_type_by_dispatch(run, finished, tmp_path):
    """A function for a type of one's own, registered with fastai's dispatcher, is used."""
    from fastai.imports import dispatch
    from fastai.torch_core import TensorCategory

    from samerun.callback.media import tables

    class Mine(TensorCategory):
        pass

    @dispatch
    def wandb_process(x: str, y: Mine, samples, outs, preds):
        return {"mine": len(samples)}

    assert tables.wandb_process("x", Mine(torch.tensor(1)), [1, 2], [], None) == {"mine": 2}


@pytest.mark.parametrize("name", APPLICATIONS)
def test_life_of_a_callback(run, finished, tmp_path, name):
    """Each application validates, finds a rate, fine-tunes and fits again; every step has a row."""
    learn = make(name, tmp_path)
    learn.add_cb(WandbCallback())
    learn.validate()
    learn.lr_find(num_it=3, show_plot=False, suggest_funcs=None)
    learn.fine_tune(1)
    if name != "language_model":  # fastai's get_preds fails for it, with or without callback
        learn.get_preds()
    learn.fit_one_cycle(1)

    logged = finished(run)
    steps = [row["train_step"] for row in logged.rows if "raw_loss" in row]
    assert steps == list(range(3 * len(learn.dls.train)))
    assert len(logged.column("valid_loss")) == 3


@pytest.mark.parametrize("name", ["classification", "text_classification"])
def test_export_predicts_without_a_run(run, tmp_path, name):
    """An exported learner that had the callback predicts an item where there is no run."""
    learn = make(name, tmp_path)
    learn.add_cb(WandbCallback(log="all"))
    learn.fit(1)
    item = {"classification": 3, "text_classification": "a good film"}[name]
    learn.export("export.pkl")
    run.finish()

    loaded = load_learner(tmp_path / "export.pkl")

    assert loaded.predict(item) is not None
