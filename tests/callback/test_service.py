"""A W&B server that fails for a while, or for good: the weights are the same, finish is bounded."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
import torch
import wandb

from samerun.callback.wandb import WandbCallback

from .conftest import STANDIN, Online, read_complete, wbserver
from .test_trouble import AtSecondEpoch, fault, fit

FINISH_S = 15  # `Online.init` gives wandb so long

PASSING = {
    "429": {"path": "file_stream", "status": 429, "times": 2, "headers": {"Retry-After": "1"}},
    "500": {"path": "file_stream", "status": 500, "times": 2},
    "slow": {"delay": 0.5, "times": 8},
}


def steps(rows):
    """Return the training's steps in *rows*, which must all be there, once."""
    return [row["train_step"] for row in rows if "raw_loss" in row]


@pytest.mark.parametrize("kind", PASSING)
def test_trouble_that_passes_loses_nothing(online, tmp_path, kind):
    """Too many requests, an internal error, slow answers: all rows arrive, once."""
    expected, _ = fit(tmp_path)
    run = online.init()
    act = AtSecondEpoch(lambda: fault(online, **PASSING[kind]))
    found, said = fit(tmp_path, WandbCallback(log_every=1, log_preds=False), act)

    assert torch.equal(found, expected)
    assert said == []
    assert online.store.faults[0].hits > 0
    assert steps(online.rows(run)) == list(range(6))


@pytest.fixture
def service(tmp_path):
    """Serve W&B from a process of its own; yield what starts it (again) and its address."""
    running = []

    def start(port=0):
        command = [sys.executable, STANDIN / "serve.py", "--port", str(port)]
        command += ["--data", tmp_path / "data"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        running.append(process)
        return process, process.stdout.readline().strip()

    yield start
    if wandb.run is not None:
        wandb.finish()
    for process in running:
        process.kill()
        process.wait()
        process.stdout.close()


def test_server_that_is_gone_for_good_bounds_the_end(service, tmp_path):
    """The training goes on, `finish` gives up in time, and every row is on disk."""
    expected, _ = fit(tmp_path)
    process, url = service()
    path = Online(url).init().settings.sync_file
    callback = WandbCallback(log_every=1, log_preds=False)
    began = time.monotonic()
    found, _ = fit(tmp_path, callback, AtSecondEpoch(process.kill))

    assert time.monotonic() - began < FINISH_S + 10
    assert torch.equal(found, expected)
    assert steps(read_complete(path).rows) == list(range(6))


def test_server_that_comes_back_gets_all(service, tmp_path):
    """Killed in the middle and started again: no row is lost, none is there twice."""
    process, url = service()
    run = Online(url).init()

    def restart():
        process.kill()
        process.wait()
        service(int(url.rpartition(":")[2]))

    fit(tmp_path, WandbCallback(log_every=1, log_preds=False), AtSecondEpoch(restart))

    kept = wbserver.Store(tmp_path / "data").runs[f"standin/test/{run.id}"]
    assert steps(kept.history()) == list(range(6))
