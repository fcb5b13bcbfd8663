"""
Train while wandb's own process is in trouble; print what each training came to, as JSON lines.

Each training is a fork with a wandb-core of its own, so that the libraries are loaded once.
"""

import hashlib
import json
import os
import resource
import signal
import sys
import time
import warnings
from pathlib import Path

import torch
import wandb
from fastai.basics import Callback
from fastai.callback.tracker import SaveModelCallback
from tests.callback.applications import make
from tests.callback.conftest import training_state

from samerun.callback.wandb import WandbCallback
from samerun.callback.warn import LoggingWarning

# Room for what wandb.init writes, but not for the file of the model.
LIMIT_BYTES = 4000


def kill_core() -> None:
    """Kill the wandb-core that this process has started."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    for pid in children:
        if "wandb-core" in Path(f"/proc/{pid}/cmdline").read_text():
            os.kill(int(pid), signal.SIGKILL)


class KillAtSecondBatch(Callback):
    """Kill wandb-core while training."""

    def before_batch(self) -> None:
        """Kill it once."""
        if self.training and self.learn.train_iter == 1:
            kill_core()


def build(path, cbs):
    """Return a learner with batch normalization, whose model's file is below the limit."""
    learn = make("classification", path)
    learn.model = torch.nn.Sequential(torch.nn.BatchNorm2d(3), learn.model)
    learn.add_cbs(cbs)
    return learn


def logging(*others, **options):
    """Return callbacks that log all there is to log."""
    options = {"log": "all", "log_grad_norm": True, "log_preds_every_epoch": True} | options
    return [WandbCallback(log_every=1, **options), *others]


def no_wandb(path):
    """Train without W&B."""
    return build(path, [SaveModelCallback()])


def killed(path):
    """Kill wandb-core in the second batch."""
    wandb.init(project="test")
    return build(path, logging(KillAtSecondBatch(), log_model=True))


def full_disk(path):
    """Let no file grow over a limit, as on a full disk; wandb-core inherits it."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT_BYTES, LIMIT_BYTES))
    wandb.init(project="test")
    return build(path, logging(log_model=True))


def train(scenario, out):
    """Train, and write what came of it to the file descriptor *out*."""
    folder = Path(scenario.__name__).resolve()
    folder.mkdir()
    os.chdir(folder)
    learn = scenario(folder)
    start = time.monotonic()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        learn.fit(3)
    told = [str(w.message) for w in said if issubclass(w.category, LoggingWarning)]
    digest = hashlib.sha256(training_state(learn).numpy().tobytes()).hexdigest()
    found = {"weights": digest, "warnings": told, "seconds": time.monotonic() - start}
    os.write(out, (json.dumps({"name": scenario.__name__, **found}) + "\n").encode())
    os._exit(0)  # wandb waits for its dead process at exit


if __name__ == "__main__":
    out = os.dup(1)
    os.dup2(2, 1)  # what fastai prints
    for each in (no_wandb, killed, full_disk):
        if not (child := os.fork()):
            train(each, out)
        os.waitpid(child, 0)
    sys.exit(0)
