"""
Small trainings for the tests of resuming, one per name; run as a script in a process of its own.

    python learners.py NAME [--kill STEP] [--signal STEP] [--validating] [--writing]

The process kills itself at a step, so that a test knows where it died.
"""

import os
import signal

import numpy as np
import torch
from dying import read_options
from fastai.callback.core import Callback
from fastai.callback.mixup import MixUp
from fastai.callback.tracker import EarlyStoppingCallback, SaveModelCallback
from fastai.callback.training import GradientAccumulation
from fastai.tabular import all as tabular
from fastai.vision import all as vision


def images(workers=0, n=48):
    """Sixteen-pixel images of two kinds, with augmentation that draws from every generator."""
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
    return block.dataloaders(items, bs=8, num_workers=workers)


class Net(torch.nn.Sequential):
    def __init__(self):
        super().__init__(
            torch.nn.Conv2d(3, 4, 3, stride=2),
            torch.nn.BatchNorm2d(4),
            torch.nn.ReLU(),
            torch.nn.Dropout(0.3),
            torch.nn.AdaptiveAvgPool2d(1),
            torch.nn.Flatten(),
            torch.nn.Linear(4, 2),
        )


def learner(workers=0, **options):
    options = {"metrics": [vision.accuracy, vision.RocAucBinary()], **options}
    loss = vision.CrossEntropyLossFlat()

    def splitter(net):
        parts = list(net)
        return [vision.params(torch.nn.Sequential(*parts[n:m])) for n, m in ((0, 5), (5, 7))]

    return vision.Learner(images(workers), Net(), loss_func=loss, splitter=splitter, **options)


def plain():
    learner().fit(3, 1e-2)


def one_cycle():
    learner().fit_one_cycle(3, 1e-2)


def workers():
    learner(workers=2).fit_one_cycle(3, 1e-2)


def fine_tune():
    learner().fine_tune(2, 1e-2)


def two_fits():
    """Saves after the first fit: a start that goes on in the second must not write it anew."""
    learn = learner()
    learn.fit(2, 1e-2)
    learn.save("first")
    learn.fit_one_cycle(2, 1e-2)
    other = learner()
    other.fit(1, 1e-2)


def mixup():
    learner(cbs=[MixUp()], metrics=[]).fit_flat_cos(3, 1e-2)


def half():
    learner().to_bf16().fit_one_cycle(3, 1e-2)


def accumulation():
    learner(cbs=[GradientAccumulation(24)]).fit_one_cycle(3, 1e-2)


def sgd():
    learner(opt_func=vision.SGD).fit(3, 1e-2)


def torch_optimizer():
    opt = vision.partial(vision.OptimWrapper, opt=torch.optim.AdamW)
    learner(opt_func=opt).fit_one_cycle(3, 1e-2)


def tracked():
    save = SaveModelCallback(monitor="valid_loss", fname="best")
    stop = EarlyStoppingCallback(monitor="valid_loss", patience=1, min_delta=10.0)
    learn = learner(cbs=[save, stop])
    learn.fit(4, 1e-2)
    learn.fit(1, 1e-3)


def changing():
    """Change something of the learner in the second epoch; *given.change* says what."""
    import changing

    changing.train(learner, given.change)


def table():
    import pandas as pd

    rng = np.random.RandomState(0)
    frame = pd.DataFrame({f"x{i}": rng.rand(96) for i in range(4)})
    frame["kind"] = rng.choice(["a", "b", "c"], 96)
    frame["y"] = rng.choice(["no", "yes"], 96)
    loaders = tabular.TabularDataLoaders.from_df(
        frame,
        procs=[tabular.Categorify, tabular.Normalize],
        cat_names=["kind"],
        cont_names=[f"x{i}" for i in range(4)],
        y_names="y",
        y_block=tabular.CategoryBlock(),
        bs=8,
        num_workers=0,
    )
    tabular.tabular_learner(loaders, layers=[8]).fit_one_cycle(3, 1e-2)


def found_rate():
    learn = learner()
    learn.lr_find(num_it=4, show_plot=False)
    learn.fit(2, 1e-2)
    learn.lr_find(num_it=4, show_plot=False)
    learn.fit(2, 1e-3)


def logged():
    import wandb

    from samerun.callback.wandb import WandbCallback

    with wandb.init(project="tests"):
        learner(cbs=[WandbCallback(log_preds=False)]).fine_tune(2, 1e-2)


class OwnRows(Callback):
    """Logs as scripts do: rows of its own, parts of the callback's rows, tables, artifacts."""

    def before_epoch(self):
        import wandb

        wandb.log({"own/epoch_begins": self.epoch})

    def after_batch(self):
        import wandb

        if self.training:
            wandb.log({"own/part": self.iter}, commit=False)
            wandb.log({"own/step": self.iter, "own/epoch": self.epoch})

    def after_epoch(self):
        import wandb

        wandb.log({"own/table": wandb.Table(columns=["epoch"], data=[[self.epoch]])})
        artifact = wandb.Artifact(f"own-{self.epoch}", type="note")
        with artifact.new_file("note.txt") as file:
            file.write(f"epoch {self.epoch}")
        wandb.run.log_artifact(artifact)


def own():
    import wandb

    from samerun.callback.wandb import WandbCallback

    with wandb.init(project="tests") as run:
        run.log({"own/before": 1})
        callbacks = [OwnRows(), WandbCallback(log_preds_every_epoch=True, n_preds=2)]
        learn = learner(cbs=callbacks)
        learn.fit(2, 1e-2)
        run.log({"own/between": 1})
        learn.fit(1, 1e-3)
        run.log({"own/after": 1}, commit=False)


def best():
    """Load the model of the first epoch at the end: the callback shows and logs that one."""
    import wandb

    from samerun.callback.wandb import WandbCallback

    save = SaveModelCallback(monitor="valid_loss", min_delta=10.0)
    with wandb.init(project="tests"):
        learner(cbs=[save, WandbCallback(log_model=True, n_preds=2)]).fit(3, 1e-1)


def fetching():
    """A subclass for fastai's callback, which adds another callback within the fit."""
    import wandb

    from samerun.callback.wandb import WandbCallback

    class Own(WandbCallback):
        def log_predictions(self):
            predictions = self.learn.fetch_preds.preds[1]
            wandb.log({"epoch": self.learn.epoch, "first": predictions[0].tolist()})

    with wandb.init(project="tests"):
        learner(cbs=[Own(log_preds_every_epoch=True, n_preds=2)]).fit(3, 1e-1)


def nan():
    learn = learner()
    learn.loss_func = lambda pred, y: vision.F.cross_entropy(pred, y) * float("nan")
    learn.fit(1)


def broken():
    class Break(Callback):
        def after_batch(self):
            if self.train_iter == 3:
                raise ValueError("a bug of the user's")

    learner(cbs=[Break()]).fit(2)


def memory():
    torch.empty(2**44)


def die_writing():
    """Die in the midst of the second checkpoint's file."""
    original, calls = torch.save, []

    def save(state, file, *args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            file.write(b"torn")
            os.kill(os.getpid(), signal.SIGKILL)
        return original(state, file, *args, **kwargs)

    torch.save = save


if __name__ == "__main__":
    given = read_options()
    if given.writing:
        die_writing()
    globals()[given.name]()
