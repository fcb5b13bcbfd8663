"""Runs that go on after their process has ended, on a W&B stand-in and offline."""

from __future__ import annotations

import pytest
import wandb
from fastai.basics import Callback

from samerun.callback.wandb import WandbCallback


def steps(rows):
    """Return the training steps that *rows* are of, in order."""
    return [row["train_step"] for row in rows if "raw_loss" in row]


class Break(Callback):
    """End the process, as far as the learner can tell, within the second epoch."""

    def before_batch(self) -> None:
        if self.training and self.epoch == 1 and self.iter == 1:
            raise KeyboardInterrupt


def test_resumed_run_loses_no_row(online, learner):
    """The rows of a resumed run follow those the server has, in step, epoch and best values."""
    run = online.init()
    first = learner(cbs=WandbCallback(log_preds=False))
    first.fit(2, lr=0.1)
    run.finish()
    run = online.init(id=run.id, resume="must")
    second = learner(cbs=WandbCallback(log_preds=False))
    second.fit(2, lr=1e-5)
    run.finish()

    rows = online.rows(run)
    assert [row["_step"] for row in rows] == list(range(12))
    assert steps(rows) == list(range(12))
    assert [row["epoch"] for row in rows if "valid_loss" in row] == [1, 2, 3, 4]
    losses = [values[1] for learn in (first, second) for values in learn.recorder.values]
    assert online.summary(run)["best_valid_loss"] == pytest.approx(min(losses))
    assert min(losses) not in losses[2:]  # the best one is of the first process


def test_late_row_of_another_right_after_a_resume(online, learner):
    """A row with a step that the server has passed is kept, also as the first one."""
    run = online.init()
    learner(cbs=WandbCallback(log_preds=False)).fit(1)
    run.finish()
    run = online.init(id=run.id, resume="must")

    class LogFirst(Callback):
        order = 100

        def before_train(self):
            wandb.log({"mine": 1}, step=1)

    learner(cbs=[WandbCallback(log_preds=False), LogFirst()]).fit(1)
    run.finish()

    rows = online.rows(run)
    assert [row["requested_step"] for row in rows if "mine" in row] == [1]
    assert steps(rows) == list(range(6))


@pytest.mark.parametrize("start_epoch", [0, 1])
def test_resume_within_an_epoch(online, learner, start_epoch):
    """With ``start_epoch`` the broken epoch is drawn again, without it the next one begins."""
    run = online.init()
    with pytest.raises(KeyboardInterrupt):
        learner(cbs=[WandbCallback(log_preds=False), Break()]).fit(2)
    run.finish()
    run = online.init(id=run.id, resume="must")
    learner(cbs=WandbCallback(log_preds=False)).fit(start_epoch + 1, start_epoch=start_epoch)
    run.finish()

    rows = online.rows(run)
    assert steps(rows) == list(range(7))
    last = 2 if start_epoch else 3
    assert [row["epoch"] for row in rows[4:]] == pytest.approx([last - 2 / 3, last - 1 / 3, last])


def test_offline_segment_continues_by_start_epoch(run, finished, learner):
    """Offline W&B knows nothing of earlier segments: ``start_epoch`` says where to go on."""
    learner(cbs=WandbCallback(log_preds=False)).fit(2)
    finished(run)
    segment = wandb.init(project="test", id=run.id, resume="must")
    learner(cbs=WandbCallback(log_preds=False)).fit(3, start_epoch=2)

    logged = finished(segment)
    assert logged.column("train_step") == [6, 7, 8]
    assert logged.column("epoch") == pytest.approx([2 + 1 / 3, 2 + 2 / 3, 3])
