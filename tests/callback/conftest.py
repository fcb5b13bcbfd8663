"""Offline runs and tiny learners."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("fastai")
wandb = pytest.importorskip("wandb")

import fastai.callback.schedule  # noqa: E402, F401 - fit_one_cycle, fine_tune, lr_find
from fastai.basics import Callback, Datasets, Learner, accuracy, set_seed  # noqa: E402

from .wandblog import LoggedRun, read_run  # noqa: E402

STANDIN = Path(__file__).parents[1] / "standin"
sys.path.insert(0, str(STANDIN))
import wbserver  # noqa: E402

KEY = "0" * 40


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
    """Finish *run* and read what it wrote."""
    path = Path(run.settings.sync_file)
    run.finish()
    return read_complete(path)


def read_complete(path: str | Path) -> LoggedRun:
    """Read the file of a finished run, which under load is complete only a little later."""
    for _ in range(100):
        logged = read_run(path)
        if logged.complete:
            return logged
        time.sleep(0.1)
    msg = f"{path} is not complete"
    raise TimeoutError(msg)


class Online:
    """A W&B stand-in, and the runs that log to it."""

    def __init__(self, url: str, store: Any = None) -> None:
        self.url, self.store = url, store

    def init(self, **kwargs: Any) -> Any:
        """Start a run on the server, which sends its rows at once."""
        settings = wandb.Settings(
            mode="online", base_url=self.url, api_key=KEY, init_timeout=20,
            x_disable_stats=True, x_disable_meta=True, console="off",
            x_file_stream_transmit_interval=0.1, finish_timeout=15,
        )  # fmt: skip
        return wandb.init(project="test", settings=settings, **kwargs)

    def rows(self, run: Any) -> list[dict[str, Any]]:
        """Return the history of a run as the server has it."""
        return self.store.runs[f"ent/test/{run.id}"].history()

    def summary(self, run: Any) -> dict[str, Any]:
        """Return the summary of a run as the server has it."""
        return self.store.runs[f"ent/test/{run.id}"].summary


@pytest.fixture
def online(tmp_path: Path) -> Iterator[Online]:
    """Serve W&B on loopback."""
    with wbserver.make_server(tmp_path / "server", entity="ent", api_keys=[KEY]) as server:
        yield Online(server.url, server.store)
        if wandb.run is not None:
            wandb.run.finish()


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
    """Return parameters and buffers of a learner, of shape (n,)."""
    return _flat(learn.model.state_dict().values())


def training_state(learn: Learner) -> torch.Tensor:
    """Return parameters, buffers and the optimizer's state of a learner, of shape (n,)."""
    state = [value for p in learn.opt.state.values() for value in p.values()]
    return torch.cat([weights(learn), _flat(state)])


def _flat(values: Iterable[Any]) -> torch.Tensor:
    numbers = [torch.as_tensor(v).detach().flatten().double() for v in values]
    return torch.cat([torch.zeros(0).double(), *numbers]).clone()


def generators() -> tuple[Any, ...]:
    """Return the states of the random generators of Python, NumPy and PyTorch."""
    kind, numbers, *rest = np.random.get_state()  # noqa: NPY002 - fastai uses it
    return random.getstate(), kind, numbers.tolist(), rest, torch.get_rng_state().tolist()


@pytest.fixture
def learner(tmp_path: Path) -> Callable[..., Learner]:
    """Return what makes a small learner with three batches per epoch."""

    def make(**kwargs: Any) -> Learner:
        return make_learner(tmp_path, **kwargs)

    return make


@pytest.fixture(scope="session")
def weights_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with random weights where torchvision would download trained ones."""
    from torchvision import models

    folder = tmp_path_factory.mktemp("torch")
    (folder / "hub" / "checkpoints").mkdir(parents=True)
    for make, kind in (
        (models.resnet18, models.ResNet18_Weights),
        (models.resnet34, models.ResNet34_Weights),
    ):
        name = kind.DEFAULT.url.rpartition("/")[2]
        torch.save(make().state_dict(), folder / "hub" / "checkpoints" / name)
    return folder


@pytest.fixture
def resnets(weights_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let fastai find weights for its ResNets."""
    monkeypatch.setenv("TORCH_HOME", str(weights_folder))


def python_path() -> dict[str, str]:
    """Return the environment that lets a script import the package and these tests."""
    root = Path(__file__).parents[2]
    return {"PYTHONPATH": f"{root}:{root / 'src'}", "OMP_NUM_THREADS": "1"}


class Losses(Callback):
    """Keep the loss of each batch of the training, and of each validation, before all others."""

    order = -100

    def __init__(self):
        self.train, self.valid = [], []

    def after_loss(self):
        if self.training:
            self.train.append(float(self.loss))

    def before_validate(self):
        self.batches = []

    def after_batch(self):
        if not self.training:
            self.batches.append(float(self.loss))

    def after_validate(self):
        self.valid.append(sum(self.batches) / len(self.batches))
