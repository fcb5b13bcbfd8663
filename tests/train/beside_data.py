"""
A script that saves all that fastai saves beside its data, before and after its training.

    python beside_data.py DATA

It knows nothing of where its files go. ddp_learners has its learner.
"""

import sys
from pathlib import Path

from ddp_learners import CrossEntropyLossFlat, accuracy, loaders, net
from fastai import distributed as fastai_distributed  # noqa: F401
from fastai.basics import Callback, Learner, load_learner, rank_distrib
from fastai.callback import schedule  # noqa: F401 - lr_find
from fastai.callback.progress import CSVLogger
from fastai.callback.tracker import SaveModelCallback


class Writer(Callback):
    """Writes beside the data on its own, as many callbacks of users do."""

    def after_epoch(self):
        if rank_distrib() == 0:
            (self.path / "own").mkdir(exist_ok=True)
            (self.path / "own" / f"{self.epoch}.txt").write_text("x")


def same(learn, other):
    mine, theirs = (list(one.model.state_dict().values()) for one in (learn, other))
    return all(bool((a == b).all()) for a, b in zip(mine, theirs, strict=True))


def find(learn):
    """Find a rate; every process has the model back that it had, to the last bit."""
    before = [value.clone() for value in learn.model.state_dict().values()]
    learn.lr_find(num_it=6, show_plot=False, suggest_funcs=None)
    after = learn.model.state_dict().values()
    assert all(bool((a == b).all()) for a, b in zip(before, after, strict=True))


def main(data):
    dls = loaders()
    dls.path = data
    learn = Learner(dls, net(), loss_func=CrossEntropyLossFlat(), metrics=[accuracy])
    learn.load("pretrained")
    learn.save("before")
    learn.export("before.pkl")
    saver = SaveModelCallback(monitor="valid_loss", fname="best")
    with learn.distrib_ctx(sync_bn=False):
        find(learn)
        learn.fit_one_cycle(2, 1e-2, cbs=[saver, CSVLogger(), Writer()])
        find(learn)
    learn.save("after", with_opt=True)
    learn.save(data / "models" / "absolute")
    learn.export()
    learn.export(fname=data / "absolute.pkl")
    assert rank_distrib() or len(CSVLogger.read_log(_logger(learn))) == 2
    again = Learner(dls, net(), loss_func=CrossEntropyLossFlat())
    for name in ("after", "best", data / "models" / "absolute"):
        again.load(name)
    again.load("after")
    assert same(learn, again)
    for name in (data / "export.pkl", learn.path / "export.pkl", data / "absolute.pkl"):
        assert same(learn, load_learner(name))


def _logger(learn):
    logger = CSVLogger()
    logger.learn = learn
    return logger


if __name__ == "__main__":
    main(Path(sys.argv[1]))
