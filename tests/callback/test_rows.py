"""What a fit writes to the history of a run."""

from __future__ import annotations

import math
import time

import pytest
import torch
import wandb
from fastai.basics import Callback, CancelFitException

from samerun.callback.stream.bulk import Handover
from samerun.callback.wandb import WandbCallback


class LogToo(Callback):
    """Log to the same run from a callback of the user."""

    def __init__(self, **kwargs) -> None:
        self.kwargs = kwargs

    def after_batch(self) -> None:
        if self.training:
            step = {k: getattr(self.learn, v) for k, v in self.kwargs.items()}
            wandb.log({"mine": float(self.train_iter)}, **step)


def test_every_batch_has_a_row(run, finished, learner):
    """Two epochs of three batches give six rows, with fastai's keys."""
    learner(cbs=WandbCallback(log_preds=False)).fit(2)

    rows = finished(run).rows
    assert [row["_step"] for row in rows] == [0, 1, 2, 3, 4, 5]
    assert [row["epoch"] for row in rows] == pytest.approx([1 / 3, 2 / 3, 1, 4 / 3, 5 / 3, 2])
    keys = {"train_loss", "raw_loss", "train_samples_per_sec", "lr_0", "mom_0", "wd_0", "eps_0"}
    assert all(keys <= set(row) for row in rows)


def test_losses_are_those_of_the_step(run, finished, learner):
    """The logged smooth losses are those the recorder keeps, in the same order."""
    learn = learner(cbs=WandbCallback(log_preds=False))
    learn.fit(3)

    assert finished(run).column("train_loss") == pytest.approx(
        [float(x) for x in learn.recorder.losses]
    )


def test_metrics_share_the_last_row_of_their_epoch(run, finished, learner):
    """Validation loss and metrics are in the row of the epoch's last batch."""
    learn = learner(cbs=WandbCallback(log_preds=False))
    learn.fit(2)

    logged = finished(run)
    rows = [row for row in logged.rows if "valid_loss" in row]
    assert [row["_step"] for row in rows] == [2, 5]
    assert [row["accuracy"] for row in rows] == pytest.approx([v[2] for v in learn.recorder.values])


def test_rows_wait_together_but_keep_their_step(run, finished, learner):
    """With hand-overs of four steps all steps arrive once, in order."""
    learner(cbs=WandbCallback(log_preds=False, log_every=4)).fit(4)

    assert finished(run).column("train_step") == list(range(12))


def test_hyper_parameters_of_each_group_and_step(run, finished, learner):
    """Rates and momenta of each group are those the recorder saw, step by step."""
    split = lambda m: [list(m[0].parameters()), list(m[2].parameters())]  # noqa: E731
    learn = learner(splitter=split, cbs=WandbCallback(log_preds=False))
    learn.fit_one_cycle(2, lr_max=slice(1e-4, 1e-2))

    logged, hypers = finished(run), learn.recorder.hps
    assert logged.column("lr_1") == pytest.approx(hypers["lr"])
    assert logged.column("mom_1") == pytest.approx(hypers["mom"])
    assert logged.column("lr_0") == pytest.approx([lr / 100 for lr in hypers["lr"]])
    names = {"wd", "eps", "sqr_mom", "mom", "lr"}
    assert {f"{name}_{group}" for name in names for group in (0, 1)} <= set(logged.rows[0])


def test_throughput_counts_items_and_time(run, finished, learner):
    """Eight items in a little more than 20 ms are a little less than 400 a second."""

    class Slow(Callback):
        def before_batch(self):
            time.sleep(0.02)

    learner(cbs=[WandbCallback(log_preds=False), Slow()]).fit(1)

    assert all(20 < rate < 400 for rate in finished(run).column("train_samples_per_sec"))


def test_second_fit_continues(run, finished, learner):
    """Steps and epochs of a second fit follow those of the first."""
    learn = learner(cbs=WandbCallback(log_preds=False))
    learn.fit(1)
    learn.fit_one_cycle(2)

    logged = finished(run)
    assert logged.column("train_step") == list(range(9))
    assert [row["epoch"] for row in logged.rows if "valid_loss" in row] == [1, 2, 3]


def test_second_learner_continues(run, finished, learner):
    """Another learner with another callback continues the same run."""
    learner(cbs=WandbCallback(log_preds=False)).fit(1)
    learner(cbs=WandbCallback(log_preds=False)).fit(1)

    logged = finished(run)
    assert logged.column("train_step") == list(range(6))
    assert logged.column("epoch")[-1] == 2


def test_second_run_starts_anew(finished, learner, run):
    """A second run in the same process has its own axes."""
    learn = learner(cbs=WandbCallback(log_preds=False))
    learn.fit(1)
    run.finish()
    other = wandb.init(project="test")
    learn.fit(1)

    assert finished(other).column("epoch") == pytest.approx([1 / 3, 2 / 3, 1])


def test_callback_for_one_fit_logs_only_that_fit(run, finished, learner):
    """Given to ``fit`` the callback logs nothing of the fit before."""
    learn = learner()
    learn.fit(1)
    learn.fit(1, cbs=WandbCallback(log_preds=False))

    assert finished(run).column("train_step") == [0, 1, 2]
    assert not hasattr(learn, "wandb")


def test_start_epoch_is_on_the_axis(run, finished, learner):
    """A fit that begins with epoch 2 is drawn from 2 to 3."""
    learner(cbs=WandbCallback(log_preds=False)).fit(3, start_epoch=2)

    assert finished(run).column("epoch") == pytest.approx([2 + 1 / 3, 2 + 2 / 3, 3])


def test_lr_find_is_not_logged(run, finished, learner):
    """The learning-rate finder leaves no row, and the fit after it all of its own."""
    learn = learner(cbs=WandbCallback(log_preds=False))
    learn.lr_find(num_it=5, show_plot=False)
    learn.fit(1)

    assert finished(run).column("train_step") == [0, 1, 2]


@pytest.mark.parametrize("step", [{}, {"step": "train_iter"}, {"step": "epoch"}])
def test_rows_of_others_and_ours_all_arrive(run, finished, learner, step):
    """Code that logs to the same run in each batch, with any step, loses nothing."""
    learner(cbs=[WandbCallback(log_preds=False, log_every=2), LogToo(**step)]).fit(3)

    logged = finished(run)
    assert logged.column("train_step") == list(range(9))
    assert len(logged.column("valid_loss")) == 3
    if step != {"step": "epoch"}:  # wandb merges what has the same step; nothing is dropped
        assert logged.column("mine") == [float(i) for i in range(1, 10)]


@pytest.mark.parametrize("gone", ["class", "field"])
@pytest.mark.parametrize("step", [{}, {"step": "train_iter"}])
def test_without_private_fields_rows_go_through_log(
    run, finished, learner, monkeypatch, gone, step
):
    """Where wandb lacks what bulk hand-over needs, ``run.log`` takes the same rows."""
    if gone == "class":
        monkeypatch.delattr("wandb.sdk.interface.interface_sock.InterfaceSock")
    else:
        monkeypatch.setattr(run._settings, "x_history_value_encoding", "json,typed")
    assert not Handover(run)._bulk
    learner(cbs=[WandbCallback(log_preds=False, log_every=2), LogToo(**step)]).fit(2)

    logged = finished(run)
    assert logged.column("train_step") == list(range(6))
    assert logged.column("mine") == [float(i) for i in range(1, 7)]
    assert len(logged.column("valid_loss")) == 2


def test_log_of_the_run_is_its_own_again(run, learner):
    """After the run, ``wandb.log`` is what wandb makes it, and the next run logs as ever."""
    own = type(run).log
    learner(cbs=WandbCallback(log_preds=False)).fit(1)
    assert wandb.log is run.log
    run.finish()
    with pytest.raises(wandb.Error):
        wandb.log({"a": 1})
    other = wandb.init(project="test")

    assert "log" not in vars(other)
    assert wandb.log == other.log
    assert type(other).log is own


def test_log_by_another_is_wrapped_not_replaced(run, finished, learner):
    """A ``run.log`` that other code has put there still gets every call."""
    seen, original = [], run.log

    def log(data, step=None, commit=None):
        seen.append(step)
        original(data, step=step, commit=commit)

    run.log = log
    learner(cbs=WandbCallback(log_preds=False)).fit(1)
    run.log({"mine": 1}, step=1)
    wandb.log({"mine": 2}, step=1)

    assert seen == [None]  # for the step has passed
    assert finished(run).column("requested_step") == [1, 1]


def test_step_of_an_epoch_is_kept(run, finished, learner):
    """A row that wandb would drop because its step has passed is kept, with the step in it."""
    learn = learner(cbs=WandbCallback(log_preds=False))
    for epoch in range(3):
        learn.fit(1)
        wandb.log({"mine": epoch}, step=epoch)

    logged = finished(run)
    assert logged.column("mine") == [0, 1, 2]
    assert logged.column("requested_step") == [0, 1, 2]


def test_row_before_the_fit_is_no_obstacle(run, finished, learner):
    """A run that was logged to before fitting is continued."""
    wandb.log({"foo": 1})
    learner(cbs=WandbCallback(log_preds=False)).fit(1)

    assert [row["_step"] for row in finished(run).rows] == [0, 1, 2, 3]


def test_early_stop_keeps_the_last_epoch(run, finished, learner):
    """An epoch whose end raises CancelFitException still has its metrics."""

    class Stop(Callback):
        order = 63

        def after_epoch(self):
            raise CancelFitException

    learner(cbs=[WandbCallback(log_preds=False), Stop()]).fit(3)

    assert len(finished(run).column("valid_loss")) == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError("boom")])
def test_exception_loses_no_row(run, finished, learner, error):
    """Rows before an interrupt arrive, and the next fit works."""

    class Break(Callback):
        def before_batch(self):
            if self.training and self.iter == 2:
                raise error

    learn = learner(cbs=WandbCallback(log_preds=False))
    with pytest.raises((KeyboardInterrupt, RuntimeError)):
        learn.fit(1, cbs=Break())
    learn.fit(1)

    logged = finished(run)
    assert logged.column("train_step") == list(range(5))
    assert logged.column("epoch")[-1] == 2
    assert "_do_epoch" not in vars(learn)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_losses_that_are_not_finite_are_logged(run, finished, learner, value):
    """NaN and infinite losses are rows like others."""
    loss = lambda pred, *_: pred.sum() * value  # noqa: E731
    learner(loss_func=loss, metrics=[], cbs=WandbCallback(log_preds=False)).fit(1)

    assert len(finished(run).column("raw_loss")) == 3


def test_metrics_may_be_dictionaries_and_arrays(run, finished, learner):
    """Each element of a metric with several values becomes a chart of its own."""
    from fastai.basics import ValueMetric

    metrics = [
        ValueMetric(lambda: {"a": 1, "b": torch.tensor(2.0)}, "d"),
        ValueMetric(lambda: torch.tensor([3.0, 4.0]), "t"),
    ]
    learner(metrics=metrics, cbs=WandbCallback(log_preds=False)).fit(1)

    row = finished(run).rows[-1]
    assert (row["d_a"], row["d_b"], row["t_0"], row["t_1"]) == (1, 2.0, 3.0, 4.0)


def test_best_values_are_in_the_summary(run, finished, learner):
    """The least validation loss and the greatest accuracy stay beside the last ones."""
    learn = learner(cbs=WandbCallback(log_preds=False))
    learn.fit(3, lr=0.1)

    summary = finished(run).summary
    assert summary["best_valid_loss"] == pytest.approx(min(v[1] for v in learn.recorder.values))
    assert summary["best_accuracy"] == pytest.approx(max(v[2] for v in learn.recorder.values))


def test_metrics_are_drawn_over_epochs(run, finished, learner):
    """The axis of validation metrics is the epoch."""
    learner(cbs=WandbCallback(log_preds=False)).fit(1)

    assert finished(run).metrics == {"valid_loss": "epoch", "accuracy": "epoch"}
