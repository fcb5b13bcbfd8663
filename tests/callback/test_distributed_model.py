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


@pytest.mark.parametrize(
    ("how", "who"), [("constructor", "main"), ("fit", "main"), ("add_cb", "all")]
)
def test_model_of_the_main_process(tmp_path, how, who):
    """The job goes on after the fit, with the same weights in both, and the model is logged."""
    env = {k: v for k, v in os.environ.items() if k != "WANDB_SERVICE"} | python_path()
    done = subprocess.run(
        [sys.executable, *TORCHRUN, "--local-addr=127.0.0.1", SCRIPT, how, who],
        cwd=tmp_path, env=env, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr[-3000:]
    assert "same True" in done.stdout
    assert ("not loaded" in done.stderr) == (who == "main")
    (log,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    # `fit(cbs=)` gave it to the first of the two fits alone.
    fits = 1 if how == "fit" else 2
    assert [a.type for a in read_run(log).artifacts] == ["model"] * fits
