"""The model that is saved: by whose measure, and never at the cost of the training."""

from __future__ import annotations

import fastai.callback.hook  # noqa: F401 - summary
import numpy as np
import pytest
from fastai.basics import Callback, DataLoaders, Metric
from fastai.callback.tracker import SaveModelCallback
from fastai.callback.training import ShortEpochCallback

from samerun.callback.wandb import WandbCallback
from samerun.callback.warn import LoggingWarning


class Play(Metric):
    """Give one value after the other, epoch by epoch."""

    def __init__(self, name, values):
        self._name, self._values = name, iter(values)

    def reset(self):
        pass

    def accumulate(self, learn):
        pass

    @property
    def value(self):
        return next(self._values)

    @property
    def name(self):
        return self._name


def models(logged):
    """Return aliases and metadata of the models in a run."""
    return [(a.aliases, a.metadata) for a in logged.artifacts if a.type == "model"]


@pytest.mark.parametrize(
    ("comp", "best"), [(np.less, 0.2), (np.greater, 0.9), (lambda a, b: a < b, 0.2)]
)
def test_best_is_what_the_saver_says(run, learner, finished, comp, best):
    """The artifact, its alias and the best value in the summary go by the saver's `comp`."""
    saver = SaveModelCallback(monitor="score", comp=comp)
    if comp(0, 1) and comp is not np.less:
        saver.best, saver.reset_on_fit = float("inf"), False
    callback = WandbCallback(log_preds=False, log_model=True)
    learner(metrics=Play("score", [0.5, 0.2, 0.9]), cbs=[callback, saver]).fit(3)

    logged = finished(run)
    ((aliases, metadata),) = models(logged)
    assert metadata["score"] == best
    assert "best" in aliases
    assert logged.summary["best_score"] == best


def test_a_saver_that_goes_by_the_training_loss(run, learner, finished):
    """Its value is in the metadata, though it is none of the metrics."""
    saver = SaveModelCallback(monitor="train_loss")
    learner(cbs=[WandbCallback(log_preds=False, log_model=True), saver]).fit(3, lr=0.1)

    logged = finished(run)
    ((aliases, metadata),) = models(logged)
    assert aliases == ["best", "latest"]
    assert metadata["train_loss"] == pytest.approx(saver.best)


class LateSaver(SaveModelCallback):
    """A saver of one's own, which comes after our callback."""

    order = 80


@pytest.mark.parametrize(
    "savers", [[LateSaver()], [SaveModelCallback(), SaveModelCallback(fname="second")]]
)
def test_other_savers(run, learner, finished, savers):
    """A subclass under another name, and two of them: none is added, and the model is right."""
    learn = learner(cbs=[WandbCallback(log_preds=False, log_model=True), *savers])
    learn.fit(3)

    ((_, metadata),) = models(finished(run))
    losses = [values[1] for values in learn.recorder.values]
    assert metadata["valid_loss"] == pytest.approx(min(losses))
    assert metadata["epoch"] == losses.index(min(losses)) + 1
    assert len([cb for cb in learn.cbs if isinstance(cb, SaveModelCallback)]) == len(savers)


def no_validation_metrics(learn):
    """Switch them off."""
    learn.recorder.valid_metrics, learn.recorder.train_metrics = False, True
    return ()


SHORT = {
    "training": lambda learn: ShortEpochCallback(pct=0.3, short_valid=False),
    "both": lambda learn: ShortEpochCallback(pct=0),
    "no validation metrics": no_validation_metrics,
}


@pytest.mark.parametrize("kind", SHORT)
@pytest.mark.parametrize("metrics", [None, Play("score", [1, 2, 3, 4])])
def test_the_saver_that_we_add_ends_no_training(run, learner, finished, kind, metrics):
    """Where there is nothing to be best at, the last model is logged, and that is said."""
    learn = learner(metrics=metrics, cbs=WandbCallback(log_preds=False, log_model=True))
    cbs = SHORT[kind](learn)
    if kind == "training":
        learn.fit(2, cbs=cbs)
    else:
        with pytest.warns(LoggingWarning, match="last model is saved"):
            learn.fit(2, cbs=cbs)

    assert len(models(finished(run))) == 1


def test_a_monitor_that_has_only_nan(run, learner, finished):
    """Nothing is saved, nothing is loaded, and the training ends as it does."""
    learn = learner(cbs=WandbCallback(log_preds=False, log_model=True))

    class Nan(Callback):
        def after_loss(self):
            self.learn.loss = self.learn.loss * float("nan")

    with pytest.warns(LoggingWarning, match="No model was saved"):
        learn.fit(2, cbs=Nan())

    assert models(finished(run)) == []


def test_a_model_that_can_not_be_loaded_again(run, learner, finished, tmp_path):
    """A file that vanished costs a warning, not the training."""
    learn = learner(cbs=WandbCallback(log_preds=False, log_model=True))

    class Remove(Callback):
        order = 60.5

        def after_fit(self):
            (tmp_path / "models" / "model.pth").unlink()

    with pytest.warns(LoggingWarning, match="ends with the last model"):
        learn.fit(2, cbs=Remove())

    assert len(finished(run).column("raw_loss")) == 6


def test_summary_and_lr_find_between_fits(run, learner, finished):
    """They neither save nor load a model, nor end anything."""
    learn = learner(cbs=WandbCallback(log_preds=False, log_model=True))
    learn.fit(1)
    learn.summary()
    learn.lr_find(num_it=3, show_plot=False)
    learn.validate()
    learn.fit(1)

    logged = finished(run)
    assert len(models(logged)) == 2
    assert [row["epoch"] for row in logged.rows if "valid_loss" in row] == [1, 2]


class Unsized:
    """A loader of another library: batches and their number, nothing else."""

    def __init__(self, dl):
        self._batches = list(dl)

    def __len__(self):
        return len(self._batches)

    def __iter__(self):
        return iter(self._batches)

    def to(self, device):
        return self


@pytest.mark.parametrize("how", ["constructor", "fit", "add_cb"])
def test_loaders_of_other_libraries(run, learner, finished, how):
    """Without a dataset the model is saved all the same."""
    dls = learner().dls
    callback = WandbCallback(log_preds=False, log_model=True)
    loaders = DataLoaders(Unsized(dls.train), Unsized(dls.valid))
    learn = learner(cbs=callback if how == "constructor" else None)
    learn.dls = loaders
    if how == "add_cb":
        learn.add_cb(callback)
    learn.fit(2, cbs=callback if how == "fit" else None)

    assert len(models(finished(run))) == 1
