"""
Small trainings of convolutions and matrix products in the precisions that a GPU has.

    python trainings.py NAME [--kill STEP]
"""

import argparse
import os
import signal

import numpy as np
import torch
from fastai.callback.channelslast import ChannelsLast
from fastai.callback.core import Callback
from fastai.callback.training import GradientAccumulation
from fastai.vision import all as vision


def images(n=48):
    """Return loaders of images of two kinds, with augmentation on the CPU and on the GPU."""
    rng = np.random.RandomState(0)
    items = [(rng.randint(0, 255, (16, 16, 3), dtype=np.uint8), i % 2) for i in range(n)]
    block = vision.DataBlock(
        blocks=(vision.ImageBlock, vision.CategoryBlock),
        get_x=vision.ItemGetter(0),
        get_y=vision.ItemGetter(1),
        splitter=vision.RandomSplitter(seed=1),
        item_tfms=vision.RandomResizedCrop(16),
        batch_tfms=vision.aug_transforms(size=16),
    )
    return block.dataloaders(items, bs=8, num_workers=0)


def learner(**options):
    """An XResNet, with its BatchNorm, on augmented images."""
    net = vision.xresnet18(n_out=2, act_cls=vision.Mish, widen=0.25)
    loss = vision.CrossEntropyLossFlat()
    return vision.Learner(images(), net, loss_func=loss, metrics=vision.accuracy, **options)


def fp32():
    learner().fit_one_cycle(3, 1e-2)


def fp16():
    learner().to_fp16().fit_one_cycle(3, 1e-2)


def bf16():
    learner().to_bf16().fit_one_cycle(3, 1e-2)


def channels_last():
    learner(cbs=[ChannelsLast()]).to_fp16().fit_one_cycle(3, 1e-2)


def accumulated():
    learner(cbs=[GradientAccumulation(24)]).to_fp16().fit_one_cycle(3, 1e-2)


def ranger():
    learner(opt_func=vision.ranger).fit_flat_cos(3, 1e-2)


def sgd():
    learner(opt_func=vision.SGD).fit(3, 1e-2)


def torch_adamw():
    opt = vision.partial(vision.OptimWrapper, opt=torch.optim.AdamW)
    learner(opt_func=opt).fit_one_cycle(3, 1e-2)


def fine_tune():
    learn = vision.vision_learner(images(), vision.resnet18, pretrained=False, normalize=False)
    learn.fine_tune(2, 1e-2)


def unet():
    """Masks by a U-Net: pixel shuffle, interpolation, and a loss for each pixel."""
    blocks = (vision.ImageBlock, vision.MaskBlock(["out", "in"]))
    block = vision.DataBlock(
        blocks, get_x=_noise, get_y=_square, splitter=vision.RandomSplitter(0.25, seed=1)
    )
    dls = block.dataloaders(list(range(24)), bs=4, num_workers=0)
    vision.unet_learner(dls, vision.resnet18, pretrained=False, n_out=2).to_fp16().fit(3, 1e-3)


def _noise(number):
    torch.manual_seed(number)
    return (torch.rand(32, 32, 3) * 255).byte().numpy()


def _square(number):
    mask = torch.zeros(32, 32, dtype=torch.uint8)
    mask[number % 16 : number % 16 + 8, 4:12] = 1
    return mask.numpy()


def distributed():
    """One model on all processes, in half precision with one scaler decision."""
    from fastai import distributed as fastai_distributed  # noqa: F401

    learn = learner().to_fp16()
    with learn.distrib_ctx(sync_bn=False):
        learn.fit_one_cycle(3, 1e-2)


class Recurrent(torch.nn.Module):
    """An LSTM whose dropout lies inside cuDNN, with a state that torch does not hand out."""

    def __init__(self):
        super().__init__()
        self.recurrent = torch.nn.LSTM(48, 16, 2, dropout=0.5, batch_first=True)
        self.head = torch.nn.Linear(16, 2)

    def forward(self, x):
        return self.head(
            self.recurrent(torch.as_tensor(x).flatten(2).flatten(1).view(len(x), 16, 48))[0][:, -1]
        )


def rnn_dropout(*cbs):
    loss = vision.CrossEntropyLossFlat()
    learn = vision.Learner(images(), Recurrent(), loss_func=loss, cbs=list(cbs))
    learn.fit_one_cycle(3, 1e-2)


def rnn_dropout_logged():
    import wandb

    from samerun.callback.wandb import WandbCallback

    with wandb.init(project="gpu"):
        rnn_dropout(WandbCallback(log_preds_every_epoch=True))


class Death(Callback):
    """Kills its process at a training step, counted over all fits."""

    order, seen, step = 900, 0, 0

    def after_batch(self):
        if self.training:
            Death.seen += 1
            if Death.seen == self.step:
                os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("--kill", type=int, default=0)
    given = parser.parse_args()
    if given.kill:
        Death.step = given.kill
        vision.defaults.callbacks.append(Death)
    globals()[given.name]()
