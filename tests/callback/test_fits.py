"""Where a fit begins and ends, whoever uses the learner in it and however it ends."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
import threading

import fastai.callback.hook  # noqa: F401 - summary
import pytest
import torch
import wandb
from fastai.basics import (
    Callback,
    Learner,
    load_learner,
)
from fastai.callback.tracker import SaveModelCallback

from samerun.callback.wandb import WandbCallback
from samerun.callback.warn import LoggingWarning

from .applications import make
from .conftest import Losses, finish, make_learner, python_path


def test_batches_that_a_learner_leaves_out(run, learner, finished):
    """Each that it trains on has its loss, and its own place in the epoch."""

    class Skips(Learner):
        def all_batches(self):
            self.n_iter = len(self.dl)
            for number, batch in enumerate(self.dl):
                if number % 2 == 0:
                    self.one_batch(number, batch)

    learn, truth = learner(), Losses()
    learn = Skips(learn.dls, learn.model, loss_func=learn.loss_func)
    with learn.no_bar(), learn.no_logging():
        learn.fit(2, cbs=[WandbCallback(log_preds=False), truth])

    logged = finished(run)
    assert logged.column("raw_loss") == pytest.approx(truth.train)
    assert logged.column("epoch") == pytest.approx([1 / 3, 1, 4 / 3, 2])


def test_summary_needs_no_run_and_leaves_no_trace(learner):
    """Before the first fit, with everything that can be asked for."""
    learn = learner(cbs=WandbCallback(log="all", log_model=True, log_preds_every_epoch=True))
    before = list(learn.cbs)
    learn.summary()

    assert set(learn.cbs) == set(before)


def test_a_model_with_the_names_of_callbacks(run, learner, finished):
    """What the learner lacks it asks the model for: that must not mislead us."""

    class Model(torch.nn.Sequential):
        save_model = lr_finder = gather_preds = recorder_log = None

        def save(self, path):
            raise AssertionError

    learn = learner(cbs=WandbCallback(log_preds=False, log_model=True))
    learn.model = Model(*learn.model)
    learn.fit(1)

    logged = finished(run)
    assert len(logged.column("raw_loss")) == 3
    assert [a.type for a in logged.artifacts] == ["model"]


def test_threads_with_a_run_each(tmp_path):
    """`run=` says which is whose."""
    settings = wandb.Settings(x_disable_stats=True, reinit="create_new")
    runs = [wandb.init(project="test", settings=settings) for _ in range(2)]

    def train(run, epochs):
        learn = make_learner(tmp_path / run.id, cbs=WandbCallback(run=run, log_model=True))
        learn.fit(epochs)

    threads = [threading.Thread(target=train, args=(run, n)) for n, run in enumerate(runs, start=1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    for epochs, run in enumerate(runs, start=1):
        logged = finish(run)
        assert logged.column("train_step") == list(range(3 * epochs))
        assert [a.type for a in logged.artifacts if a.type == "model"] == ["model"]


@pytest.mark.parametrize(
    "options",
    [{"n_preds": -1}, {"n_preds": "9"}, {"log_every": 0}, {"log_freq": 0}, {"log_freq": 1.5}],
    ids=str,
)
def test_numbers_that_can_not_be(options):
    """They are refused at once, by their names."""
    with pytest.raises(ValueError, match=next(iter(options))):
        WandbCallback(**options)


@pytest.mark.parametrize("when", ["before", "within"])
def test_a_run_that_was_closed(run, learner, when):
    """`run=` of a finished run costs one warning, whatever is lost, and no training."""

    class Close(Callback):
        def before_train(self):
            if self.epoch == 1:
                run.finish()

    if when == "before":
        run.finish()
    callback = WandbCallback(run=run, log="all", log_model=True, log_preds_every_epoch=True)
    learn = learner(cbs=callback)
    with pytest.warns(LoggingWarning) as said:
        learn.fit(3, cbs=Close())

    messages = [str(w.message) for w in said if issubclass(w.category, LoggingWarning)]
    assert len([m for m in messages if "finished" in m]) == 1
    assert len(messages) <= 2  # the other one is of a table that this learner has not
    assert len(learn.recorder.values) == 3


EXPORTED = """
import sys
for name in ("wandb", "samerun"):
    sys.modules[name] = None
sys.path[:] = [path for path in sys.path if not path.endswith("src")]
import pandas as pd
from fastai.tabular.all import load_learner
learn = load_learner("export.pkl")
frame = pd.DataFrame({"color": ["red", "blue"], "size": [0.0, 1.0]})
print(learn.get_preds(dl=learn.dls.test_dl(frame))[0].shape)
"""


@pytest.mark.parametrize("savers", [[], [SaveModelCallback()]])
def test_an_export_loads_where_wandb_is_not(run, tmp_path, savers):
    """In a Python that can import neither W&B nor this package, it predicts."""
    learn = make("tabular", tmp_path)
    learn.add_cbs([WandbCallback(log="all", log_model=True), *savers])
    learn.fit(1)
    learn.export(tmp_path / "export.pkl")
    command = [sys.executable, "-c", EXPORTED]
    env = {**os.environ, **python_path()}
    done = subprocess.run(
        command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120, check=False
    )

    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip().endswith("torch.Size([2, 3])")


@pytest.mark.parametrize("log", ["everything", "Gradients", True, ""])
def test_log_is_one_of_its_choices(log):
    """Anything else is refused at once, with the choices."""
    with pytest.raises(ValueError, match='"gradients", "parameters", "all" or None'):
        WandbCallback(log=log)


def test_an_export_has_no_callback_of_ours(run, learner, tmp_path):
    """Nor the model saver that it added; a copy of the learner has both."""
    learn = learner(cbs=WandbCallback(log_preds=False, log_model=True))
    learn.fit(1)
    learn.export(tmp_path / "export.pkl")
    data = (tmp_path / "export.pkl").read_bytes()

    assert b"samerun.callback" not in data
    assert b"wandb.sdk" not in data
    loaded = load_learner(tmp_path / "export.pkl")
    assert not any("samerun" in type(cb).__module__ for cb in loaded.cbs)
    assert any(isinstance(cb, WandbCallback) for cb in copy.deepcopy(learn).cbs)
    assert type(pickle.loads(pickle.dumps(WandbCallback()))) is Callback
