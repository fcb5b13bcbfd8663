"""
Classify cats and dogs.

    invoke train examples/pets.py

Downloads the Oxford-IIIT Pet dataset (811 MB) and the weights of a ResNet. W&B shows losses,
images with predictions, a confusion matrix and the images with the highest loss.
"""

import wandb
from fastai.callback.wandb import *
from fastai.vision.all import *

path = untar_data(URLs.PETS) / "images"


def is_cat(name):
    """Return whether the file name is that of a cat: it starts with a capital letter."""
    return name[0].isupper()


dls = ImageDataLoaders.from_name_func(
    path,
    get_image_files(path),
    valid_pct=0.2,
    seed=42,
    bs=32,
    label_func=is_cat,
    item_tfms=Resize(128),
)

wandb.init(project="pets")
learn = vision_learner(dls, resnet34, metrics=error_rate, cbs=WandbCallback())
learn.fine_tune(1)
wandb.finish()
