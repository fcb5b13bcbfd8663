"""Fail on the GPU: ``python failing.py HOW [--rank R]``."""

import argparse
import os
import signal

import torch
from fastai.callback.core import Callback
from trainings import learner

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def oom():
    torch.empty(2**45, dtype=torch.uint8, device=DEVICE)


def assertion():
    """An index that is out of range, as of a label that the head has no class for."""
    x = torch.zeros(4, device=DEVICE)
    x[torch.tensor([9], device=DEVICE)].sum().item()


def raised():
    raise ValueError("a bug of the user's")


def killed():
    os.kill(os.getpid(), signal.SIGKILL)


class Fail(Callback):
    """Fails in the second epoch."""

    how = None

    def before_batch(self):
        if self.epoch == 1:
            self.how()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("how")
    parser.add_argument("--rank", type=int, default=0)
    given = parser.parse_args()
    fail = Fail()
    if given.rank == int(os.environ.get("RANK", "0")):
        fail.how = globals()[given.how]
    else:
        fail.how = lambda: None
    learn = learner(cbs=[fail])
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        import fastai.distributed  # noqa: F401 - gives learners their context

        with learn.distrib_ctx(sync_bn=False):
            learn.fit(3, 1e-3)
    else:
        learn.fit(3, 1e-3)
