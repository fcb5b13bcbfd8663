"""A user's distributed script whose epochs take their time: `slow.py EPOCHS PAUSE`."""

import contextlib
import sys
import time

import wandb
from fastai.callback.wandb import WandbCallback
from fastai.distributed import rank_distrib
from fastai.tabular.all import *


class Pause(Callback):
    """Wait after each epoch, so that a test can do something meanwhile."""

    def after_epoch(self):
        time.sleep(float(sys.argv[2]))


frame = pd.DataFrame({"a": np.random.rand(128), "y": np.arange(128) % 2})
dls = TabularDataLoaders.from_df(
    frame, cont_names=["a"], y_names="y", y_block=CategoryBlock(), bs=8, valid_idx=range(64)
)  # fmt: skip
learn = tabular_learner(dls, layers=[8], metrics=accuracy, cbs=Pause())
logs = rank_distrib() == 0
with wandb.init() if logs else contextlib.nullcontext(), learn.distrib_ctx(sync_bn=False):
    learn.fit(int(sys.argv[1]), cbs=[WandbCallback(log_preds=False)] if logs else [])
