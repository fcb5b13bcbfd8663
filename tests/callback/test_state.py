"""The callback's place in a run, as checkpoints hold it."""

from __future__ import annotations

from fastai.basics import Callback

from samerun.callback.wandb import WandbCallback


class Look(Callback):
    """Take the state in the midst of an epoch, and once all is over."""

    order = 900

    def __init__(self, logger):
        self.logger = logger

    def after_batch(self):
        if self.training and self.iter == 1:
            self.inside = self.logger.state_dict()


def test_state_is_plain_and_brings_another_callback_to_the_same_place(run, learner, finished):
    """Steps, epochs and best values; the newest step waits for the metrics of its epoch."""
    logger = WandbCallback(log_preds=False)
    look = Look(logger)
    learner(cbs=[logger, look]).fit(1)
    after = logger.state_dict()
    other = WandbCallback(log_preds=False)
    other.load_state_dict(after)
    learner(cbs=[other]).fit(1)
    rows = finished(run).rows

    assert look.inside["progress"]["steps"] == 2
    assert look.inside["fit"]["pending"]["number"] == 1
    assert isinstance(look.inside["fit"]["pending"]["raw_loss"], float)
    assert after["fit"] is None
    steps = [row["train_step"] for row in rows if "raw_loss" in row]
    assert steps == list(range(len(steps)))
    assert after["progress"]["steps"] * 2 == len(steps)


def test_state_is_given_back_to_one_fit_only(run, learner, finished):
    """The row that waited in the first one must not come again in the next."""
    logger = WandbCallback(log_preds=False)
    look = Look(logger)
    learn = learner(cbs=[logger, look])

    class Restore(Callback):
        order, done = 901, False

        def after_batch(self):
            if self.training and self.iter == 1 and not Restore.done:
                Restore.done = True
                logger.load_state_dict(look.inside)

    learn.fit(1, cbs=[Restore()])
    learn.fit(1)
    rows = finished(run).rows

    steps = [row["train_step"] for row in rows if "raw_loss" in row]
    assert steps == list(range(len(steps)))


def test_without_a_run_there_is_no_state(learner):
    """And loading none changes nothing."""
    logger = WandbCallback()
    logger.load_state_dict({})

    assert logger.state_dict() == {}
