"""
Classify cats and dogs in several processes, with one W&B run in the main process.

    invoke train examples/ddp.py --gpus 2
    invoke train examples/ddp.py --gpus 0 --procs 2
"""

import wandb
from fastai.callback.wandb import WandbCallback
from fastai.distributed import *
from fastai.vision.all import *

path = rank0_first(lambda: untar_data(URLs.PETS) / "images")


def train():
    """Train the head of a ResNet for one epoch."""
    dls = ImageDataLoaders.from_name_func(
        path,
        get_image_files(path),
        valid_pct=0.2,
        label_func=lambda name: name[0].isupper(),
        item_tfms=Resize(224),
    )
    # The other processes have no run, so their callbacks log nothing. For one run per
    # process, remove the condition and pass a group to init.
    if rank_distrib() == 0:
        wandb.init(project="pets")
    learn = vision_learner(dls, resnet34, metrics=error_rate, cbs=WandbCallback()).to_fp16()
    with learn.distrib_ctx(sync_bn=False):
        learn.fit(1)


if __name__ == "__main__":
    train()
