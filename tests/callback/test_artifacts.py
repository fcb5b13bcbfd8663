"""Models and datasets in artifacts."""

from __future__ import annotations

import math

import pytest
from fastai.callback.tracker import EarlyStoppingCallback, SaveModelCallback

from samerun.callback.wandb import WandbCallback, log_dataset, log_model
from samerun.callback.warn import LoggingWarning


@pytest.fixture
def folder(tmp_path):
    """Return a folder with data, and folders of models in it."""
    data = tmp_path / "my data!"
    for name in ("top.csv", "models/a.pth", "train/1.txt", "train/models/b.pth"):
        file = data / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    return data


def test_dataset_leaves_models_out(run, finished, folder):
    """Folders called ``models`` are left out at every level, and the name is made valid."""
    log_dataset(folder)

    (artifact,) = finished(run).artifacts
    assert (artifact.name, artifact.type) == ("my-data-", "dataset")
    assert set(artifact.files) == {"top.csv", "train/1.txt"}


def test_dataset_by_reference(run, finished, folder):
    """A dataset logged by reference names its files and copies none."""
    log_dataset(folder, "data", reference=True)

    (artifact,) = finished(run).artifacts
    assert artifact.files["top.csv"].startswith("file://")


def test_metadata_is_kept_as_it_is(run, finished, folder):
    """Numbers stay numbers, objects become names, and the caller's dictionary is untouched."""
    metadata = {"size": 3, "loss": math.nan, "how": test_metadata_is_kept_as_it_is}
    log_dataset(folder, "data", metadata)

    (artifact,) = finished(run).artifacts
    assert artifact.metadata == {"size": 3, "loss": "nan", "how": "test_metadata_is_kept_as_it_is"}
    assert math.isnan(metadata["loss"])


@pytest.mark.parametrize("log", [log_dataset, log_model])
def test_without_a_run_the_call_is_named(log, tmp_path):
    """Logging by hand without a run says what to call."""
    with pytest.raises(ValueError, match=r"wandb\.init"):
        log(tmp_path)


@pytest.mark.parametrize("log", [log_dataset, log_model])
def test_wrong_path_is_named(run, log, tmp_path):
    """A path that is not there is in the message."""
    with pytest.raises(ValueError, match="nowhere"):
        log(tmp_path / "nowhere")


def test_callback_logs_the_dataset(run, finished, learner, folder):
    """The callback logs a folder as artifact when training begins."""
    learner(cbs=WandbCallback(log_preds=False, log_dataset=folder, dataset_name="toy")).fit(1)

    (artifact,) = finished(run).artifacts
    assert artifact.name == "toy"


@pytest.mark.parametrize("given_to", ["learner", "fit"])
def test_best_model_with_the_metrics_of_its_epoch(run, finished, learner, given_to):
    """The artifact describes the best epoch, whether the learner or ``fit`` has the callback."""
    callback = WandbCallback(log_preds=False, log_model=True, model_name="net")
    learn = learner(cbs=callback if given_to == "learner" else None)
    learn.fit(4, lr=0.3, cbs=None if given_to == "learner" else callback)

    losses = [values[1] for values in learn.recorder.values]
    (artifact,) = finished(run).artifacts
    assert (artifact.name, artifact.type, list(artifact.files)) == ("net", "model", ["net.pth"])
    assert artifact.metadata["valid_loss"] == pytest.approx(min(losses))
    assert artifact.metadata["epoch"] == losses.index(min(losses)) + 1
    assert artifact.aliases == ["best", "latest"]
    assert hasattr(learn, "save_model") == (given_to == "learner")


def test_worse_fit_is_not_best(run, finished, learner):
    """A second fit that ends worse than the first does not take the alias ``best``."""
    learn = learner(cbs=WandbCallback(log_preds=False, log_model=True))
    learn.fit(2, lr=0.01)
    learn.fit(1, lr=30.0)

    first, second = finished(run).artifacts
    assert (first.aliases, second.aliases) == (["best", "latest"], ["latest"])


@pytest.mark.parametrize(
    "options", [{"every_epoch": True}, {"at_end": True}, {"monitor": "accuracy"}]
)
def test_saver_of_the_user(run, finished, learner, options):
    """The callback takes what the user's SaveModelCallback saves, in whatever way."""
    savers = [
        SaveModelCallback(fname="mine", **options),
        WandbCallback(log_preds=False, log_model=True),
    ]
    learner(cbs=savers).fit(2)

    (artifact,) = finished(run).artifacts
    assert artifact.name == "mine"


def test_no_finite_loss_saves_no_model(run, finished, learner):
    """A training whose loss is NaN ends without an error and without a model."""
    callback = WandbCallback(log_preds=False, log_model=True)
    learn = learner(loss_func=lambda pred, *_: pred.sum() * math.nan, cbs=callback)
    with pytest.warns(UserWarning, match="No model was saved"):
        learn.fit(1)

    assert finished(run).artifacts == []


def test_early_stopping_and_model(run, finished, learner):
    """With early stopping the best model is logged as well."""
    stop = EarlyStoppingCallback(patience=1)
    learner(cbs=[WandbCallback(log_preds=False, log_model=True), stop]).fit(3, lr=30.0)

    assert len(finished(run).artifacts) == 1


def test_links_of_a_dataset_are_followed(run, finished, tmp_path):
    """Linked files and folders are in the artifact; a loop ends, a lost link is said."""
    disk, data = tmp_path / "disk", tmp_path / "data"
    (disk / "train").mkdir(parents=True)
    (disk / "train" / "1.txt").write_text("1")
    data.mkdir()
    (data / "own.txt").write_text("o")
    (data / "train").symlink_to(disk / "train")
    (data / "one.txt").symlink_to(disk / "train" / "1.txt")
    (data / "loop").symlink_to(data)
    (data / "gone").symlink_to(tmp_path / "nowhere")

    with pytest.warns(LoggingWarning, match="gone leads nowhere"):
        log_dataset(data, "linked")

    (artifact,) = finished(run).artifacts
    assert sorted(artifact.files) == ["one.txt", "own.txt", "train/1.txt"]
