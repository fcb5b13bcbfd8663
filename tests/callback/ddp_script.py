"""
Train on two processes on the CPU, once without W&B and once in each way of logging.

Started by torchrun, or by itself with ``notebook``: then accelerate's ``notebook_launcher``
forks the processes. Each rank leaves ``{mode}{rank}.pt``: its weights, what it predicted with
the callback attached, and the file of its run.
"""

import os
import socket
import sys
import warnings
from pathlib import Path

os.environ["ACCELERATE_USE_CPU"] = "true"
import torch
import torch.distributed
import wandb
from accelerate import notebook_launcher
from fastai.basics import set_seed
from fastai.distributed import DistributedDL, rank0_first
from fastai.torch_core import rank_distrib
from tests.callback.applications import make

from samerun.callback.wandb import WandbCallback
from samerun.callback.warn import LoggingWarning


def broadcast(self, values, rank):
    """Do what fastai does, which calls .cuda() unconditionally."""
    values = torch.tensor(values)
    torch.distributed.broadcast(values, rank)
    return values.tolist()


def build():
    """Return a learner with batch normalization and three steps per epoch and process."""
    learn = make("classification", Path.cwd())
    learn.model = torch.nn.Sequential(torch.nn.BatchNorm2d(3), learn.model)
    for dl in learn.dls.loaders:
        dl.bs = 1
    return learn


def start_run(mode, rank):
    """Start the run of this process, if it has one in this mode; return its file."""
    folder = Path(f"{mode}-rank{rank}")
    folder.mkdir()
    settings = wandb.Settings(x_disable_stats=True)
    if mode == "shared":
        settings = wandb.Settings(
            mode="shared", x_disable_stats=True, x_primary=rank == 0, x_label=f"rank{rank}",
            x_update_finish_state=rank == 0,
        )  # fmt: skip
    if mode in ("each", "shared") or (mode in ("main", "notebook") and rank == 0):
        options = {"id": "shared"} if mode == "shared" else {}
        run = wandb.init(project="test", group="ddp", dir=folder, settings=settings, **options)
        return run.settings.sync_file
    return None


def train(mode):
    """Fit, and use the learner as one does within ``distrib_ctx``."""
    set_seed(0)
    DistributedDL._broadcast = broadcast
    learn = rank0_first(build)
    rank = rank_distrib()
    file = start_run(mode, rank)
    if mode != "none":
        learn.add_cb(WandbCallback(log="gradients", log_preds_every_epoch=True, n_preds=4))
    with learn.distrib_ctx(sync_bn=False):
        learn.fit(2)
        losses = learn.validate()
        preds, _ = learn.get_preds()
    label = learn.predict(3)[0]
    learn.export(f"{mode}{rank}.pkl")
    state = {"weights": learn.model.state_dict(), "losses": list(losses), "preds": preds}
    torch.save({**state, "label": label, "file": file, "rank": rank}, f"{mode}{rank}.pt")
    if wandb.run is not None:
        wandb.finish()


if __name__ == "__main__":
    warnings.simplefilter("error", LoggingWarning)
    modes = sys.argv[1:]
    if modes == ["notebook"]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        notebook_launcher(train, ("notebook",), num_processes=2, use_port=port)
    else:
        for each in modes:
            train(each)
