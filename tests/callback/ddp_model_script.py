"""
Save the best model in some processes of two, and go on with collectives.

Arguments: pairs such as `fit:main`, how the callback is given, and to whom. For each, the main
process prints whether all have the same weights after the fit, which a process that waits alone
would keep from happening. What a pair writes lies in a folder of its name.
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

rank = int(os.environ["RANK"])
DistributedDL._broadcast = broadcast


def train(how, who, folder):
    """Train twice with the callback; return whether both processes then have the same weights."""
    given = rank == 0 or who == "all"
    callback = WandbCallback(log_preds=False, log_model=True) if given else None
    learn = make_learner(folder, cbs=callback if how == "constructor" else None)
    if how == "add_cb" and given:
        learn.add_cb(callback)
    with learn.distrib_ctx(sync_bn=False):
        learn.fit(3, lr=0.5, cbs=callback if how == "fit" else None)
        found = torch.cat([p.detach().flatten() for p in learn.model.parameters()])
        each = [torch.zeros_like(found) for _ in range(2)]
        torch.distributed.all_gather(each, found)
        learn.fit(1)
    return torch.equal(*each)


for pair in sys.argv[1:]:
    folder = Path(pair)
    folder.mkdir(exist_ok=True)
    if rank == 0:
        settings = wandb.Settings(x_disable_stats=True)
        wandb.init(project="test", dir=folder, settings=settings)
        print(f"begin {pair}", file=sys.stderr, flush=True)
    same = train(*pair.split(":"), folder)
    if rank == 0:
        print(pair, "same", same)
        print(f"end {pair}", file=sys.stderr, flush=True)
        wandb.finish()
