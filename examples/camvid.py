"""
Segment street scenes, and log the dataset and the best model as artifacts.

    invoke train examples/camvid.py

Downloads the small CamVid dataset (2 MB) and the weights of a ResNet. W&B shows each image
with its true and predicted masks and the class names.
"""

import wandb
from fastai.callback.wandb import *
from fastai.vision.all import *

path = untar_data(URLs.CAMVID_TINY)
codes = np.loadtxt(path / "codes.txt", dtype=str)
fnames = get_image_files(path / "images")


def label_func(fn):
    """Return the path of the mask: the name of its image with _P appended."""
    return path / "labels" / f"{fn.stem}_P{fn.suffix}"


dls = SegmentationDataLoaders.from_label_func(
    path, bs=8, fnames=fnames, label_func=label_func, codes=codes
)

wandb.init(project="camvid")
learn = unet_learner(
    dls,
    resnet18,
    metrics=foreground_acc,
    cbs=WandbCallback(log_dataset=True, log_model=True),
)
learn.fit_one_cycle(2)
wandb.finish()
