"""Trainings that kill or stop themselves at a step, so that a test knows where they died."""

import argparse
import os
import signal

from fastai.callback.core import Callback
from fastai.torch_core import defaults


class Death(Callback):
    """Dies at a training step, counted over all fits of the process's life."""

    order, seen, options = 900, 0, None

    def after_batch(self):
        validating = not self.training
        if not validating:
            Death.seen += 1
        if Death.seen == self.options.kill and validating == self.options.validating:
            os.kill(os.getpid(), signal.SIGKILL)
        if Death.seen == self.options.signal and validating == self.options.validating:
            os.kill(os.getpid(), signal.SIGTERM)
        if Death.seen == self.options.fail and validating == self.options.validating:
            raise OSError("the data is not there for a moment")


def read_options():
    """Read the command line; let every learner of this process die as that says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("--kill", type=int, default=0)
    parser.add_argument("--signal", type=int, default=0)
    parser.add_argument("--fail", type=int, default=0)
    parser.add_argument("--rank", type=int, default=0)
    parser.add_argument("--change")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--pause", type=float, default=0.0)
    parser.add_argument("--validating", action="store_true")
    parser.add_argument("--writing", action="store_true")
    given = parser.parse_args()
    doomed = given.rank == int(os.environ.get("RANK", "0"))
    if doomed and (given.kill or given.signal or given.fail):
        Death.options = given
        defaults.callbacks.append(Death)
    return given
