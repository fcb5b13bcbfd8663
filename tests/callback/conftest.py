"""Offline runs and tiny learners."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("fastai")
wandb = pytest.importorskip("wandb")

import fastai.callback.schedule  # noqa: E402, F401 - fit_one_cycle, fine_tune, lr_find
from fastai.basics import Datasets, Learner, accuracy, set_seed  # noqa: E402

from .wandblog import LoggedRun, read_run  # noqa: E402


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep every run on this disk, in the folder of the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    for name in ("DIR", "DATA_DIR", "CACHE_DIR", "CONFIG_DIR", "ARTIFACT_DIR"):
        monkeypatch.setenv(f"WANDB_{name}", str(tmp_path))
    yield
    if wandb.run is not None:
        wandb.run.finish()


@pytest.fixture
def run(offline: None) -> Any:
    """Start an offline run, without the system monitor."""
    return wandb.init(project="test", settings=wandb.Settings(x_disable_stats=True))


@pytest.fixture
def finished() -> Callable[[Any], LoggedRun]:
    """Return what finishes a run and reads it."""
    return finish


def finish(run: Any) -> LoggedRun:
    """Finish *run* and read what it wrote, which under load is complete only a little later."""
    path = Path(run.settings.sync_file)
    run.finish()
    for _ in range(100):
        logged = read_run(path)
        if logged.complete:
            return logged
        time.sleep(0.1)
    msg = f"{path} is not complete"
    raise TimeoutError(msg)


class Pick:
    """Look an item up in a tensor of shape (n, ...)."""

    def __init__(self, values: torch.Tensor) -> None:
        self.values = values

    def __call__(self, item: int) -> torch.Tensor:
        return self.values[item]


def make_learner(path: Path, *, items: int = 24, bs: int = 8, **kwargs: Any) -> Learner:
    """Return a learner of two classes with *items* / *bs* batches per epoch, seeded."""
    set_seed(0)
    x = torch.randn(items, 4)
    tfms = [[Pick(x)], [Pick((x.sum(1) > 0).long())]]
    splits = [list(range(items)), list(range(8))]
    dls = Datasets(range(items), tfms, splits=splits).dataloaders(bs=bs, num_workers=0, path=path)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    kwargs = {"loss_func": torch.nn.CrossEntropyLoss(), "metrics": [accuracy], **kwargs}
    learn = Learner(dls, model, path=path, **kwargs)
    return learn.remove_cb(learn.progress) if hasattr(learn, "progress") else learn


def weights(learn: Learner) -> torch.Tensor:
    """Return all weights of a learner, of shape (n,)."""
    return torch.cat([p.detach().flatten().clone() for p in learn.model.parameters()])


@pytest.fixture
def learner(tmp_path: Path) -> Callable[..., Learner]:
    """Return what makes a small learner with three batches per epoch."""

    def make(**kwargs: Any) -> Learner:
        return make_learner(tmp_path, **kwargs)

    return make


def python_path() -> dict[str, str]:
    """Return the environment that lets a script import the package and these tests."""
    root = Path(__file__).parents[2]
    return {"PYTHONPATH": f"{root}:{root / 'src'}", "OMP_NUM_THREADS": "1"}
