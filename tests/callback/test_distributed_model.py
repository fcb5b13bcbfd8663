"""The best model in a job of two processes: loaded in both or in none, and nobody waits alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import python_path
from .test_distributed import TORCHRUN
from .wandblog import read_run

SCRIPT = str(Path(__file__).with_name("ddp_model_script.py"))
PAIRS = ("constructor:main", "fit:main", "add_cb:all")


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """Train in every way, in one go: to start the processes takes longer than all trainings."""
    folder = tmp_path_factory.mktemp("job")
    # The image's own folders for W&B are not there in its tests.
    env = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_")} | python_path()
    env |= {f"WANDB_{k}_DIR": str(folder) for k in ("DATA", "CACHE", "CONFIG", "ARTIFACT")}
    env |= {"WANDB_MODE": "offline", "WANDB_ERROR_REPORTING": "false"}
    done = subprocess.run(
        [sys.executable, *TORCHRUN, "--local-addr=127.0.0.1", SCRIPT, *PAIRS],
        cwd=folder, env=env, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return folder, done


@pytest.mark.parametrize("pair", PAIRS)
def test_model_of_the_main_process(job, pair):
    """The job goes on after the fit, with the same weights in both, and the model is logged."""
    folder, done = job
    said = done.stderr.partition(f"begin {pair}\n")[2].partition(f"end {pair}\n")[0]

    assert f"{pair} same True" in done.stdout
    assert ("not loaded" in said) == pair.endswith(":main")
    (log,) = (folder / pair).glob("wandb/offline-run-*/*.wandb")
    # `fit(cbs=)` gave it to the first of the two fits alone.
    fits = 1 if pair.startswith("fit") else 2
    assert [a.type for a in read_run(log).artifacts] == ["model"] * fits
