"""Train while wandb's process is killed; print whether the weights are those without W&B."""

import os
import signal
import sys
import warnings
from pathlib import Path

import torch
import wandb
from fastai.basics import Callback
from tests.callback.conftest import make_learner, weights

from samerun.callback.wandb import WandbCallback


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


if __name__ == "__main__":
    warnings.simplefilter("always")
    plain = make_learner(Path.cwd())
    plain.fit(3)
    wandb.init(project="test")
    learn = make_learner(Path.cwd(), cbs=[WandbCallback(log_every=1), KillAtSecondBatch()])
    learn.fit(3)
    sys.stdout.write(f"same weights: {torch.equal(weights(plain), weights(learn))}\n")
    sys.stdout.flush()
    os._exit(0)  # wandb waits for its dead process at exit
