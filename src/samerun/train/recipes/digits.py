"""Classify scikit-learn's handwritten digits, 1,797 images, with a small ResNet."""

from typing import Annotated, Literal

import numpy as np
from fastai.vision import all as vision
from sklearn.datasets import load_digits

from samerun.train.session import Session


def train(
    session: Session,
    *,
    epochs: Annotated[int, "passes over the training set"] = 4,
    lr: Annotated[float, "peak of the one-cycle schedule"] = 4e-3,
    batch_size: Annotated[int, "images per step and process"] = 64,
    size_px: Annotated[int, "side length to which the 8 px images are scaled"] = 32,
    arch: Annotated[Literal["resnet18", "resnet34"], "torchvision model"] = "resnet18",
) -> None:
    """Train from scratch; scikit-learn includes the digits, so nothing is downloaded."""
    learn = vision.vision_learner(
        load(session.seed, batch_size, size_px),
        getattr(vision, arch),
        pretrained=False,
        metrics=vision.accuracy,
        path=session.output,
    )
    with session.logged(learn):
        learn.fit_one_cycle(epochs, lr)
    if session.is_main:
        learn.export("model.pkl")


def load(seed: int, batch_size: int, size_px: int) -> vision.DataLoaders:
    """Return loaders of images, float, shape (batch, 3, size_px, size_px), one fifth held out."""
    digits = load_digits()
    images = (digits.images * (255 / 16)).astype(np.uint8)
    items = list(zip(images, digits.target.tolist(), strict=True))
    block = vision.DataBlock(
        blocks=(vision.ImageBlock, vision.CategoryBlock),
        get_x=vision.ItemGetter(0),
        get_y=vision.ItemGetter(1),
        splitter=vision.RandomSplitter(seed=seed),
        item_tfms=vision.Resize(size_px),
        batch_tfms=vision.Normalize.from_stats(*vision.imagenet_stats),
    )
    # No worker processes: loading an item takes less time than sending it between processes.
    return block.dataloaders(items, bs=batch_size, num_workers=0)
