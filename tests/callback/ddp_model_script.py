"""
Save the best model in some processes of two, and go on with collectives.

Arguments: how the callback is given, and to whom. Each process prints whether all have the same
weights after the fit, which a process that waits alone would keep from happening.
"""

import os
import sys
from pathlib import Path

os.environ["ACCELERATE_USE_CPU"] = "true"
import torch
import wandb
from fastai.distributed import DistributedDL
from tests.callback.conftest import make_learner
from tests.callback.ddp_script import broadcast

from samerun.callback.wandb import WandbCallback

how, who = sys.argv[1:]
rank = int(os.environ["RANK"])
DistributedDL._broadcast = broadcast
if rank == 0:
    wandb.init(project="test", settings=wandb.Settings(x_disable_stats=True))
given = rank == 0 or who == "all"
callback = WandbCallback(log_preds=False, log_model=True) if given else None
learn = make_learner(Path.cwd(), cbs=callback if how == "constructor" else None)
if how == "add_cb" and given:
    learn.add_cb(callback)
with learn.distrib_ctx(sync_bn=False):
    learn.fit(3, lr=0.5, cbs=callback if how == "fit" else None)
    found = torch.cat([p.detach().flatten() for p in learn.model.parameters()])
    each = [torch.zeros_like(found) for _ in range(2)]
    torch.distributed.all_gather(each, found)
    learn.fit(1)
if rank == 0:
    print("same", torch.equal(*each))
    wandb.finish()
