"""Fits, validations and exports with the callback attached, and W&B in every state."""

from __future__ import annotations

import pytest
import torch
import wandb
from fastai.basics import Callback, load_learner

from samerun.callback.wandb import WandbCallback
from samerun.callback.warn import LoggingWarning

from .conftest import weights


def test_no_run_is_said_clearly(learner):
    """Fitting without a run raises what fastai raises, and names the call that is missing."""
    with pytest.raises(ValueError, match=r"wandb\.init"):
        learner(cbs=WandbCallback()).fit(1)


def test_learner_may_be_built_before_the_run(learner, finished):
    """The run is needed when fitting begins, not before."""
    learn = learner(cbs=WandbCallback(log_preds=False))
    run = wandb.init(project="test")
    learn.fit(1)

    assert len(finished(run).rows) == 3


def test_inference_needs_no_run(learner):
    """Validate and get_preds neither hang nor raise nor start a run."""
    learn = learner(cbs=WandbCallback())
    learn.validate()
    learn.get_preds()

    assert wandb.run is None


def test_inference_between_fits_logs_nothing(run, learner, finished):
    """Validate and get_preds leave no row in the run."""
    learn = learner(cbs=WandbCallback(log_preds=False))
    learn.fit(1)
    learn.validate()
    learn.get_preds()
    learn.fit(1)

    assert [row["_step"] for row in finished(run).rows] == list(range(6))


def test_inference_within_a_fit_is_not_logged(run, learner, finished):
    """A callback that validates or predicts after each epoch does not disturb the rows."""

    class Predict(Callback):
        remove_on_fetch = True

        def after_epoch(self):
            if not self.learn.lock.locked():
                removed = list(self.learn._grab_cbs(type(self.learn.recorder)))
                with self.learn.removed_cbs(removed):
                    self.learn.get_preds(inner=True)

    learner(cbs=[WandbCallback(log_preds=False), Predict()]).fit(2)

    assert finished(run).column("train_step") == list(range(6))


def test_exported_learner_predicts_without_a_run(run, learner, tmp_path):
    """An export made after logging gradients loads and predicts where there is no run."""
    learn = learner(cbs=WandbCallback(log="all", log_preds=False))
    learn.fit(1)
    learn.export(tmp_path / "export.pkl")
    run.finish()

    loaded = load_learner(tmp_path / "export.pkl")

    loaded.get_preds(dl=learn.dls.valid)
    assert wandb.run is None


def test_disabled_run_is_silent(learner, recwarn):
    """With a disabled run the fit neither logs nor warns."""
    wandb.init(project="test", mode="disabled")
    learner(cbs=WandbCallback()).fit(1)

    assert not [str(w.message) for w in recwarn if issubclass(w.category, LoggingWarning)]


def test_disabled_without_init_is_silent(monkeypatch, learner):
    """WANDB_MODE=disabled is enough to train without wandb.init."""
    monkeypatch.setenv("WANDB_MODE", "disabled")
    learner(cbs=WandbCallback()).fit(1)


def test_internals_may_differ(learner, finished):
    """Where wandb's internals are not those of bulk hand-over, run.log takes the same rows."""
    settings = wandb.Settings(x_history_value_encoding="json,typed")
    run = wandb.init(project="test", settings=settings)
    learner(cbs=WandbCallback(log_preds=False)).fit(2)

    logged = finished(run)
    assert logged.column("train_step") == list(range(6))
    assert len(logged.column("valid_loss")) == 2


def fit_twice(learn):
    """Fit one epoch and then two; return the weights."""
    learn.fit(1)
    learn.fit(2)
    return weights(learn)


def test_weights_do_not_depend_on_logging(run, learner):
    """Weights are bit-identical with and without the callback."""
    expected = fit_twice(learner())

    assert torch.equal(fit_twice(learner(cbs=WandbCallback(log="all"))), expected)


def test_finished_run_ends_no_training(run, learner):
    """A run that ends under the fit costs one warning and no weight."""
    expected = fit_twice(learner())
    learn = learner(cbs=WandbCallback(log_every=1, log_preds=False))

    class FinishFirst(Callback):
        def after_batch(self):
            run.finish()

    with pytest.warns(LoggingWarning, match="does not take rows") as warned:
        learn.fit(1, cbs=FinishFirst())
    monkeypatched = wandb.init(project="test")
    learn.fit(2)
    monkeypatched.finish()

    assert len(warned) == 1
    assert torch.equal(weights(learn), expected)


@pytest.mark.parametrize("log", ["gradients", "parameters", "all"])
def test_histograms_of_short_runs(run, learner, finished, log):
    """A fit of six steps has histograms, also of a second fit, and no hook is left."""
    learn = learner(cbs=WandbCallback(log=log, log_preds=False))
    learn.fit(1)
    learn.fit(1)

    logged = finished(run)
    keys = {key.split("/")[0] for row in logged.rows for key in row}
    wanted = {"gradients", "parameters"} if log == "all" else {log}
    assert keys & {"gradients", "parameters"} == wanted
    assert not any(m._forward_hooks for m in learn.model.modules())
    assert logged.column("train_step") == list(range(6))


def test_gradients_of_layers_unfrozen_later(run, learner, finished):
    """Histograms of the body appear once fine_tune has unfrozen it."""
    splitter = lambda m: [list(m[0].parameters()), list(m[2].parameters())]  # noqa: E731
    learn = learner(splitter=splitter, cbs=WandbCallback(log="gradients", log_preds=False))
    learn.fine_tune(1)

    rows = finished(run).rows
    assert ["gradients/0.weight" in row for row in rows] == [False] * 3 + [True] * 3


def test_config_describes_the_training(run, learner, finished):
    """Sizes, hyper-parameters and callbacks are in the config of the run."""
    learner(cbs=WandbCallback(log_preds=False)).fit(2)

    config = finished(run).config
    assert config["n_epoch"] == 2
    assert config["input 1 dim 2"] == 4
    assert config["Learner"]["opt_func"] == "Adam"
