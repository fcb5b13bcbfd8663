"""Train on two processes on the CPU, as torchrun starts it; prints what each rank has seen."""

import os
import sys
from pathlib import Path

os.environ["ACCELERATE_USE_CPU"] = "true"
import torch
import torch.distributed
import wandb
from fastai.distributed import DistributedDL
from fastai.torch_core import rank_distrib
from tests.callback.conftest import make_learner

from samerun.callback.wandb import WandbCallback


def broadcast(self, values, rank):
    """Do what fastai does, which calls .cuda() unconditionally."""
    values = torch.tensor(values)
    torch.distributed.broadcast(values, rank)
    return values.tolist()


def main(mode: str) -> None:
    """Fit; *mode* says which processes have a run: ``each``, ``main`` or ``none``."""
    DistributedDL._broadcast = broadcast
    rank = rank_distrib()
    cbs = [] if mode == "none" else WandbCallback(log_preds_every_epoch=True, log="gradients")
    learn = make_learner(Path.cwd(), cbs=cbs)
    if mode == "each" or (mode == "main" and rank == 0):
        Path(f"rank{rank}").mkdir()
        run = wandb.init(project="test", group="ddp", dir=f"rank{rank}")
        Path(f"rank{rank}.log").write_text(run.settings.sync_file)
    with learn.distrib_ctx(sync_bn=False):
        learn.fit(2)
    torch.save([p.detach() for p in learn.model.parameters()], f"{mode}{rank}.pt")
    if wandb.run is not None:
        wandb.finish()


if __name__ == "__main__":
    main(sys.argv[1])
