"""Two processes that train one model."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from .conftest import KEY, python_path, wbserver
from .wandblog import read_run

SCRIPT = str(Path(__file__).with_name("ddp_script.py"))
TORCHRUN = ["-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """Train in every mode, in one go: to start the processes takes longer than all trainings."""
    folder = tmp_path_factory.mktemp("job")
    env = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_")} | python_path()
    env |= {"WANDB_MODE": "offline", "WANDB_API_KEY": KEY, "WANDB_ERROR_REPORTING": "false"}
    env |= {f"WANDB_{k}_DIR": str(folder) for k in ("DATA", "CACHE", "CONFIG", "ARTIFACT")}
    # With the address given, torchrun does not resolve its host name, which needs a network.
    torchrun = [*TORCHRUN, "--local-addr=127.0.0.1", SCRIPT, "none", "main", "each", "shared"]
    with wbserver.make_server(folder / "server", entity="ent", api_keys=[KEY]) as server:
        env["WANDB_BASE_URL"] = server.url
        for command in (torchrun, [SCRIPT, "notebook"]):
            done = subprocess.run(
                [sys.executable, *command], check=False, cwd=folder, env=env, timeout=240,
                capture_output=True, text=True,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr[-3000:]
        yield Job(folder, server.store)


class Job:
    """What the processes have left in *folder*, and the server has seen."""

    def __init__(self, folder, store):
        self.folder, self.store = folder, store

    def left(self, mode, rank):
        """Return what the process *rank* has left."""
        return torch.load(self.folder / f"{mode}{rank}.pt", weights_only=False)

    def run(self, mode, rank):
        """Return the offline run of a process."""
        return read_run(self.folder / self.left(mode, rank)["file"])


@pytest.mark.parametrize("mode", ["main", "each", "shared", "notebook"])
def test_each_rank_has_the_weights_of_training_without_wandb(job, mode):
    """Parameters and running statistics on both ranks are those without the callback."""
    for rank in (0, 1):
        expected, found = job.left("none", rank)["weights"], job.left(mode, rank)["weights"]
        assert expected.keys() == found.keys()
        assert all(torch.equal(expected[key], found[key]) for key in expected)


@pytest.mark.parametrize("mode", ["main", "each", "shared", "notebook"])
def test_inference_within_the_job_ends_and_agrees(job, mode):
    """``validate``, ``get_preds``, ``predict`` and ``export`` end, with the same results."""
    for rank in (0, 1):
        expected, found = job.left("none", rank), job.left(mode, rank)
        assert found["losses"] == expected["losses"]
        assert torch.equal(found["preds"], expected["preds"])
        assert found["label"] == expected["label"]
    assert (job.folder / f"{mode}0.pkl").is_file()


@pytest.mark.parametrize("mode", ["main", "notebook"])
def test_main_process_logs_and_others_stay_silent(job, mode):
    """The first process logs each of its steps and a table per epoch; the other has no run."""
    logged = job.run(mode, 0)

    assert [row["train_step"] for row in logged.rows if "raw_loss" in row] == list(range(6))
    assert len(logged.column("valid_loss")) == 2
    tables = logged.tables("Prediction_Samples")
    assert [len(table["data"]) for table in tables] == [4, 4]
    assert "gradients/1.3.weight" in logged.rows[0]
    assert job.left(mode, 1)["file"] is None


def test_each_process_logs_to_its_own_run(job):
    """With a run per process each logs its own losses, and the first alone the tables."""
    first, second = job.run("each", 0), job.run("each", 1)

    for logged in (first, second):
        assert [row["train_step"] for row in logged.rows if "raw_loss" in row] == list(range(6))
    assert first.column("raw_loss") != second.column("raw_loss")
    assert first.column("valid_loss") == second.column("valid_loss")
    assert (len(first.tables("Prediction_Samples")), second.tables("Prediction_Samples")) == (2, [])


def test_all_processes_log_to_one_run(job):
    """In wandb's shared mode the run has the rows of both, the second's under ``rank1/``."""
    run = job.store.runs["ent/test/shared"]
    rows, summary = run.history(), run.summary

    for prefix in ("", "rank1/"):
        steps = [row[f"{prefix}train_step"] for row in rows if f"{prefix}raw_loss" in row]
        assert steps == list(range(6))
        assert len([row for row in rows if f"{prefix}valid_loss" in row]) == 2
    assert len([row for row in rows if "Prediction_Samples" in row]) == 2
    assert summary["best_valid_loss"] == summary["valid_loss"]
    assert run.state == "finished"
    assert not job.store.unknown
