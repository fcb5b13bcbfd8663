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
    CancelEpochException,
    CancelFitException,
    CancelTrainException,
    Learner,
    load_learner,
)
from fastai.callback.tracker import EarlyStoppingCallback, SaveModelCallback

from samerun.callback.wandb import WandbCallback
from samerun.callback.warn import LoggingWarning

from .applications import make
from .conftest import finish, make_learner, python_path


class Look(Callback):
    """Use the learner at *event*, as callbacks do that watch a training."""

    def __init__(self, what, event, order):
        self.what, self.order = what, order
        self._busy = False
        setattr(self, event, self._look)

    def _look(self):
        if self._busy:
            return  # what is called has these events, too
        self._busy = True
        LOOKS[self.what](self.learn)
        self._busy = False


def fit_another(learn):
    """Train another learner that logs to the same run."""
    make_learner(learn.path, cbs=WandbCallback(log_preds=False)).fit(1)


def enter(learn):
    """Begin and end what `validate` begins and ends."""
    with learn:
        pass


LOOKS = {
    "get_preds": lambda learn: learn.get_preds(),
    "get_preds(inner=True)": lambda learn: learn.get_preds(inner=True),
    "validate": lambda learn: learn.validate(),
    "validate(ds_idx=0)": lambda learn: learn.validate(ds_idx=0),
    "with learn": enter,
}


class Truth(Callback):
    """Keep what the recorder takes from each validation of the fit itself."""

    order = 50.5

    def __init__(self):
        self.losses, self.done = [], set()

    def after_validate(self):
        if not self.learn.lock.locked() and self.epoch not in self.done:
            self.done.add(self.epoch)
            self.losses.append(self.recorder.log[-2])


@pytest.mark.parametrize("order", [0, 55, 90])
@pytest.mark.parametrize("event", ["after_epoch", "before_epoch", "after_train", "after_validate"])
@pytest.mark.parametrize("what", LOOKS)
def test_metrics_are_those_of_the_fit(run, learner, finished, what, event, order):
    """Whatever else the learner is used for, each epoch has its own loss, row and number."""
    if (what, event, order) == ("get_preds(inner=True)", "before_epoch", 0):
        pytest.skip("fastai's recorder has no log yet, and raises")
    truth = Truth()
    learn = learner(cbs=WandbCallback(log_preds=False, log_model=True))
    learn.fit(2, cbs=[truth, Look(what, event, order)])

    logged = finished(run)
    assert len(logged.column("raw_loss")) == 6
    assert [row["epoch"] for row in logged.rows if "valid_loss" in row] == [1, 2]
    if event == "after_epoch":
        assert logged.column("valid_loss") == pytest.approx(truth.losses)
    assert len([a for a in logged.artifacts if a.type == "model"]) == 1


@pytest.mark.parametrize("order", [55, 90])
def test_a_fit_of_another_learner_within(run, learner, finished, order):
    """Both are logged, and neither loses a row."""
    learn = learner(cbs=WandbCallback(log_preds=False))
    learn.fit(2, cbs=Once(fit_another, order))

    logged = finished(run)
    assert sorted(logged.column("train_step")) == list(range(9))
    assert len(logged.column("valid_loss")) == 3


class Once(Callback):
    """Do something after the first epoch."""

    def __init__(self, act, order):
        self._act, self.order = act, order

    def after_epoch(self):
        if self.epoch == 0:
            self._act(self.learn)


def test_a_prediction_between_two_batches_leaves_no_false_loss(run, learner, finished):
    """The loss of what was predicted is not that of the step, which is there with its own."""

    class Predict(Callback):
        order = 55

        def after_batch(self):
            if self.training and self.iter == 1 and not self.learn.lock.locked():
                self.learn.get_preds()
                self.learn.training = True
                self.model.train()

    truth = Losses()
    learn = learner(cbs=WandbCallback(log_preds=False))
    learn.fit(1, cbs=[Predict(), truth])

    logged = finished(run)
    assert logged.column("train_step") == [0, 1, 2]
    assert logged.column("epoch") == pytest.approx([1 / 3, 2 / 3, 1])
    assert logged.column("raw_loss") == pytest.approx(truth.train)


class Losses(Callback):
    """Keep the loss of each batch of the training, and of each validation, before all others."""

    order = -100

    def __init__(self):
        self.train, self.valid = [], []

    def after_loss(self):
        if self.training:
            self.train.append(float(self.loss))

    def before_validate(self):
        self.batches = []

    def after_batch(self):
        if not self.training:
            self.batches.append(float(self.loss))

    def after_validate(self):
        self.valid.append(sum(self.batches) / len(self.batches))


@pytest.mark.parametrize("order", [45, 62, 75])
def test_a_validation_between_two_batches_is_not_that_of_the_epoch(run, learner, finished, order):
    """Callbacks that validate every few steps leave loss, place and metrics alone."""

    class Often(Callback):
        def after_batch(self):
            if self.training and self.iter != 1:
                dl = self.learn.dl
                self.learn._do_epoch_validate()
                self.learn.dl, self.learn.training = dl, True
                self.model.train()

    Often.order = order
    truth = Losses()
    callback = WandbCallback(log_preds=False, log_model=True)
    learner(cbs=callback).fit(2, 0.5, cbs=[Often(), truth])

    logged = finished(run)
    assert logged.column("raw_loss") == pytest.approx(truth.train)
    assert logged.column("valid_loss") == pytest.approx(truth.valid[2::3])
    assert logged.column("epoch") == pytest.approx([n / 3 for n in range(1, 7)])
    (model,) = (a for a in logged.artifacts if a.type == "model")
    assert model.metadata["valid_loss"] == pytest.approx(min(truth.valid[2::3]))


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


@pytest.mark.parametrize("order", [0, 61, 80])
@pytest.mark.parametrize(
    "error", [CancelFitException, CancelEpochException, CancelTrainException, KeyboardInterrupt]
)
def test_the_step_after_which_a_callback_ends_it(run, learner, finished, error, order):
    """It was made: its row is there with its loss, once, whoever hears of its end first."""

    class Ends(Callback):
        def after_batch(self):
            if self.training and (self.epoch, self.iter) == (1, 1):
                raise error

    Ends.order = order
    truth = Losses()
    learn = learner(cbs=WandbCallback(log_preds=False))
    if error is KeyboardInterrupt:
        with pytest.raises(error):
            learn.fit(3, cbs=[Ends(), truth])
    else:
        learn.fit(3, cbs=[Ends(), truth])

    logged = finished(run)
    assert logged.column("raw_loss") == pytest.approx(truth.train)
    assert logged.column("train_step") == list(range(len(truth.train)))
    epochs = {CancelEpochException: [1, 3], CancelTrainException: [1, 2, 3]}.get(error, [1])
    assert [row["epoch"] for row in logged.rows if "valid_loss" in row] == epochs


class Broken(Exception):
    """What ends a training."""


class Raise(Callback):
    """Raise *error* at *event* of the second epoch, or at the end."""

    def __init__(self, event, order, error):
        self.order, self._error, self._count = order, error, 0
        setattr(self, event, self._raise)

    def _raise(self):
        self._count += 1
        if self.learn.epoch == 1:
            raise self._error


# Event: the rows of steps, and those with metrics, that a fit of two epochs has by then.
EVENTS = {
    "before_epoch": (3, 1),
    "before_train": (3, 1),
    "before_batch": (3, 1),
    "after_pred": (3, 1),
    "after_step": (4, 1),
    "after_train": (6, 1),
    "before_validate": (6, 1),
    "after_epoch": (6, 2),
    "after_fit": (6, 2),
}


@pytest.mark.parametrize("order", [0, 61, 80])
@pytest.mark.parametrize("event", EVENTS)
def test_rows_of_a_fit_that_an_exception_ends(run, learner, finished, event, order):
    """Every step that was made and every metric that was computed, once; then as if new."""
    learn = learner(cbs=WandbCallback(log_preds=False))
    before = [type(cb) for cb in learn.cbs]
    with pytest.raises(Broken):
        learn.fit(2, cbs=Raise(event, order, Broken("enough")))

    logged = finished(run)
    assert (len(logged.column("raw_loss")), len(logged.column("valid_loss"))) == EVENTS[event]
    other = wandb.init(project="test")
    learn.fit(1)
    logged = finished(other)
    assert logged.column("epoch") == pytest.approx([1 / 3, 2 / 3, 1])
    assert len(logged.column("valid_loss")) == 1
    assert [type(cb) for cb in learn.cbs] == before


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("out of memory")])
@pytest.mark.parametrize("event", ["before_batch", "after_train"])
def test_no_metrics_of_an_earlier_epoch(run, learner, finished, event, error):
    """An epoch that breaks before its validation has none."""
    learn = learner(cbs=WandbCallback(log_preds=False))
    with pytest.raises(type(error)):
        learn.fit(2, cbs=Raise(event, 5, error))

    assert [row["epoch"] for row in finished(run).rows if "valid_loss" in row] == [1]


def test_a_callback_of_a_broken_fit_leaves_nothing_in_the_learner(run, learner):
    """Neither the saver that it added nor its hold on the recorder."""
    learn = learner()
    with pytest.raises(Broken):
        learn.fit(2, cbs=[WandbCallback(log_model=True), Raise("after_fit", 5, Broken("enough"))])

    assert [type(cb).__name__ for cb in learn.cbs] == [type(cb).__name__ for cb in learner().cbs]
    assert not {"after_train", "after_validate"} & vars(learn.recorder).keys()


@pytest.mark.parametrize("order", [62, 75])
def test_table_of_the_epoch_that_a_cancelled_fit_ends_with(run, tmp_path, finished, order):
    """`log_preds_every_epoch` has a table of each epoch that was validated."""

    class Cancel(Callback):
        def after_epoch(self):
            if self.epoch == 1:
                raise CancelFitException

    Cancel.order = order
    make("tabular", tmp_path).fit(4, cbs=[WandbCallback(log_preds_every_epoch=True), Cancel()])

    logged = finished(run)
    assert [row["epoch"] for row in logged.rows if "Prediction_Samples" in row] == [1, 2]


def test_table_after_early_stopping(run, tmp_path, finished):
    """Also where fastai itself stops the fit."""
    learn = make("tabular", tmp_path)
    stop = EarlyStoppingCallback(min_delta=100, patience=1)
    learn.fit(4, cbs=[WandbCallback(log_preds_every_epoch=True), stop])

    logged = finished(run)
    epochs = len(learn.recorder.values)
    assert [row["epoch"] for row in logged.rows if "Prediction_Samples" in row] == list(
        range(1, epochs + 1)
    )


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
