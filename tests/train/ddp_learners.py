"""
A small training for several processes, as `learners` are for one.

    python ddp_learners.py NAME [--epochs N] [--pause SECONDS] [--kill STEP] [--rank RANK]

It loads no more of fastai than it needs: many tests start many processes of it.
"""

import random
import time
from pathlib import Path

import numpy as np
import torch
from dying import read_options
from fastai import distributed as fastai_distributed  # noqa: F401
from fastai.basics import Callback, Datasets, Learner, RocAucBinary, accuracy, params
from fastai.callback import schedule  # noqa: F401 - fine_tune
from fastai.losses import CrossEntropyLossFlat

ENOUGH = "enough"


class Noisy:
    """Sixteen numbers of an item, with noise that draws from every generator."""

    def __init__(self, values):
        self.values = values

    def __call__(self, item):
        noise = random.random() + np.random.rand() + torch.rand(16)  # noqa: NPY002 - fastai uses it
        return self.values[item] + 0.1 * noise


class Kind:
    """The kind of an item, of two."""

    def __call__(self, item):
        return torch.tensor(item % 2)


def net():
    first = torch.nn.Linear(16, 8), torch.nn.BatchNorm1d(8), torch.nn.ReLU()
    return torch.nn.Sequential(*first, torch.nn.Dropout(0.3), torch.nn.Linear(8, 2))


class Pause(Callback):
    """Wait after each epoch, until the folder has a file that says that it is enough."""

    def after_epoch(self):
        if not Path(ENOUGH).exists():
            time.sleep(given.pause)


def loaders(n=48):
    values = torch.from_numpy(np.random.RandomState(0).rand(n, 16)).float()
    splits = [list(range(10, n)), list(range(10))]
    sets = Datasets(range(n), [[Noisy(values)], [Kind()]], splits=splits)
    return sets.dataloaders(bs=8, num_workers=0)


def split(model):
    return [params(model[:4]), params(model[4:])]


def distributed():
    options = {"metrics": [accuracy, RocAucBinary()], "splitter": split, "cbs": Pause()}
    learn = Learner(loaders(), net(), loss_func=CrossEntropyLossFlat(), **options)
    with learn.distrib_ctx(sync_bn=False):
        learn.fine_tune(given.epochs, 1e-2)


if __name__ == "__main__":
    given = read_options()
    globals()[given.name]()
