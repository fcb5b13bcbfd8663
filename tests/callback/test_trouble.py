"""Whatever W&B does, the fit ends with the weights it would have without the callback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
import warnings
from pathlib import Path

import pytest
import torch
import wandb
from fastai.basics import Callback
from fastai.callback.tracker import SaveModelCallback

from samerun.callback import session
from samerun.callback.wandb import WandbCallback
from samerun.callback.warn import LoggingWarning

from .applications import make
from .conftest import STANDIN, Online, python_path, read_complete, training_state, wbserver


@pytest.fixture(scope="module")
def forks(tmp_path_factory):
    """Train with wandb's process in trouble; return what each training came to, by its name."""
    # WANDB_SERVICE would lead the script to the wandb-core of this process.
    env = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_")} | python_path()
    env |= {"WANDB_MODE": "offline", "WANDB_ERROR_REPORTING": "false"}
    folder = tmp_path_factory.mktemp("trouble")
    env |= {f"WANDB_{k}_DIR": str(folder) for k in ("DATA", "CACHE", "CONFIG", "ARTIFACT")}
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("trouble_script.py"))], env=env,
        cwd=folder, capture_output=True, text=True, timeout=180, check=True,
    )  # fmt: skip
    return {found["name"]: found for found in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize(
    ("trouble", "told"), [("killed", "does not take rows"), ("full_disk", "disk is full")]
)
def test_wandb_process_in_trouble(forks, trouble, told):
    """With wandb's process killed, or the disk full, the weights are the same; one warning."""
    found = forks[trouble]

    assert found["weights"] == forks["no_wandb"]["weights"]
    assert len(found["warnings"]) == 1
    assert told in found["warnings"][0]
    assert found["seconds"] < 10


class AtSecondEpoch(Callback):
    """Do something as the second epoch begins."""

    def __init__(self, act) -> None:
        self.act = act

    def before_epoch(self) -> None:
        if self.epoch == 1:
            self.act()


def fit(path, *cbs):
    """Fit three epochs, saving the best model; return weights and the callback's warnings."""
    learn = make("classification", path)
    learn.add_cbs([SaveModelCallback(), *cbs])
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        learn.fit(3)
        if wandb.run is not None:
            wandb.finish()
    told = [str(w.message) for w in said if issubclass(w.category, LoggingWarning)]
    return training_state(learn), told


def fault(online, **fault):
    """Let the server misbehave from now on."""
    online.store.faults = [wbserver.Fault(**{"times": 10**6} | fault)]


REFUSED = {
    "upload": {"path": "storage", "status": 403},
    "artifact": {"path": "graphql", "op": "CreateArtifact", "status": 403},
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused_artifact_is_told_once(online, tmp_path, what):
    """A model that the server refuses costs one warning, and no row and no weight."""
    expected, _ = fit(tmp_path)
    run = online.init()
    act = AtSecondEpoch(lambda: fault(online, **REFUSED[what]))
    options = {"log_preds": False, "log_model": True}
    found, said = fit(tmp_path, WandbCallback(log_every=1, **options), act)

    assert torch.equal(found, expected)
    assert len(said) == 1
    assert "did not get the model" in said[0]
    assert [row["train_step"] for row in online.rows(run) if "raw_loss" in row] == list(range(6))


def test_refused_dataset_is_told_once(online, tmp_path):
    """A dataset that the server refuses costs one warning, which names the dataset."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.txt").write_text("a")
    expected, _ = fit(tmp_path)
    online.init()
    fault(online, path="graphql", op="UseArtifact", status=403)
    options = {"log_preds": False, "log_dataset": tmp_path / "data"}
    found, said = fit(tmp_path, WandbCallback(**options))

    assert torch.equal(found, expected)
    assert len(said) == 1
    assert "did not get the dataset" in said[0]


def test_unauthorized_from_now_on(online, tmp_path, capfd, monkeypatch):
    """With a key that is no longer valid the fit goes on, wandb warns, the rows are on disk."""
    expected, _ = fit(tmp_path)
    monkeypatch.setenv("WANDB_SILENT", "false")
    wandb.teardown()  # wandb reads the variable once
    run = online.init()
    path = run.settings.sync_file
    act = AtSecondEpoch(lambda: fault(online, status=401))
    found, said = fit(tmp_path, WandbCallback(log_every=1, log_preds_every_epoch=True), act)

    wandb.teardown()
    assert torch.equal(found, expected)
    assert len(said) + capfd.readouterr().err.count("Fatal error while uploading data") == 1
    assert [r["train_step"] for r in read_complete(path).rows if "raw_loss" in r] == list(range(6))


@pytest.fixture
def frozen(tmp_path):
    """Serve W&B from a process of its own, which can be stopped."""
    command = [sys.executable, STANDIN / "serve.py", "--port", "0", "--data", tmp_path / "data"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        yield process, Online(process.stdout.readline().strip())
        if wandb.run is not None:
            wandb.finish()
        process.kill()


def test_server_that_does_not_answer(frozen, tmp_path, monkeypatch):
    """A server that hangs is waited for once; what waited arrives, in order, when it is back."""
    monkeypatch.setattr(session, "_PATIENCE_S", 0.5)
    expected, _ = fit(tmp_path)
    process, online = frozen
    run = online.init()
    path = run.settings.sync_file
    back = []

    class ComeBack(Callback):
        order = 200

        def after_fit(self):
            back.append(time.monotonic())
            process.send_signal(signal.SIGCONT)
            for thread in threading.enumerate():
                if thread.name == "samerun-wandb":
                    thread.join(60)

    stop = AtSecondEpoch(lambda: process.send_signal(signal.SIGSTOP))
    callback = WandbCallback(log="all", log_preds_every_epoch=True, log_model=True, n_preds=2)
    start = time.monotonic()
    found, said = fit(tmp_path, callback, stop, ComeBack())

    logged = read_complete(path)
    assert back[0] - start < 30
    assert torch.equal(found, expected)
    assert [text for text in said if "does not answer" in text] == said
    assert len(said) == 1
    assert [row["epoch"] for row in logged.rows if "Prediction_Samples" in row] == [1, 2, 3]
    assert [row["train_step"] for row in logged.rows if "raw_loss" in row] == list(range(6))
    with urllib.request.urlopen(f"{online.url}/_admin/state") as answer:
        state = json.load(answer)
    assert "standin/test/model" in state["collections"]
    assert {a["state"] for a in state["artifacts"].values()} == {"COMMITTED"}


@pytest.mark.parametrize("strict", [False, True])
def test_table_over_the_limit_of_wandb(tmp_path, monkeypatch, caplog, strict):
    """Of more rows than W&B takes, wandb drops some and says so; where it raises, we say so."""
    expected, _ = fit(tmp_path)
    settings = wandb.Settings(table_raise_on_max_row_limit_exceeded=strict)
    wandb.init(project="test", settings=settings)
    monkeypatch.setattr(wandb.Table, "MAX_ARTIFACT_ROWS", 3)
    monkeypatch.setattr(wandb.Table, "MAX_ROWS", 3)
    found, said = fit(tmp_path, WandbCallback(n_preds=5, log_preds_every_epoch=True))

    assert torch.equal(found, expected)
    assert [text for text in said if "row limit" in text] == said
    assert len(said) == (2 if strict else 0)  # for the samples, and for the charts
    assert ("Truncating" in caplog.text) != strict


def test_tag_over_the_limit_of_wandb(run, finished, tmp_path):
    """A tag that W&B refuses neither ends the fit nor loses a row."""
    run.tags += ("sha256:" + 64 * "0",)
    learn = make("classification", tmp_path)
    learn.fit(1, cbs=WandbCallback(log_preds=False))

    logged = finished(run)
    assert logged.column("train_step") == [0, 1]
