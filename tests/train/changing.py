"""Trainings that change something of their learner in their second epoch, by name."""

import torch
from fastai.callback.core import Callback
from fastai.vision import all as vision

EPOCHS = 3


class Change(Callback):
    """Make *changes* to the learner at the start of the second epoch of the first fit."""

    def __init__(self, changes):
        self.changes = changes

    def before_epoch(self):
        if self.epoch == 1 and self.n_epoch == EPOCHS:
            for change in self.changes:
                change(self.learn)


class Double(Callback):
    """Doubles each loss, while it runs."""

    def after_loss(self):
        self.learn.loss_grad = self.learn.loss_grad * 2


class Halve(Callback):
    """Halves each loss."""

    def after_loss(self):
        self.learn.loss_grad = self.learn.loss_grad / 2


def freeze(learn):
    learn.freeze()


def stay_in_order(learn):
    learn.dls.train.shuffle = False


def drop_more(learn):
    learn.model[3].p = 0.6


def weigh(learn):
    learn.loss_func.func.weight = torch.tensor([1.0, 3.0], device=learn.dls.device)


def switch_off(learn):
    learn.double.run = False


def augment_less(learn):
    for transform in learn.dls.train.after_batch.fs:
        transform.p = 0.0


def lose_otherwise(learn):
    learn.loss_func = vision.LabelSmoothingCrossEntropyFlat()


def load_others(learn):
    learn.dls.loaders = [learn.dls.train, learn.dls.valid.new()]


def load_other_items(learn):
    learn.dls.train.dataset.tls[0].items = learn.dls.train.dataset.tls[0].items[::-1]


def add_callback(learn):
    learn.add_cb(Halve())


def remove_callback(learn):
    learn.remove_cb(learn.double)


def optimize_otherwise(learn):
    learn.opt_func = vision.SGD
    learn.create_opt()


RESTORED = ("freeze", "stay_in_order", "drop_more", "weigh", "switch_off", "augment_less")
# With the name that a refusal gives each.
REFUSED = {
    "lose_otherwise": "learn.loss_func",
    "load_others": "learn.dls.valid",
    "load_other_items": "learn.dls.train.dataset.tls[0].items",
    "add_callback": "callback halve (added)",
    "remove_callback": "callback double (removed)",
    "optimize_otherwise": "learn.opt",
}


def train(learner, names):
    """Two fits; in the first one the changes *names*, separated by commas."""
    changes = [globals()[name] for name in names.split(",")]
    learn = learner(cbs=[Change(changes), Double()])
    learn.fit(EPOCHS, 1e-2)
    learn.fit(2, 1e-2)
