"""Two processes that train one model."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from .conftest import python_path
from .wandblog import read_run


def train(mode: str, folder: Path) -> None:
    """Run the script on two processes of torchrun."""
    script = Path(__file__).with_name("ddp_script.py")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
    # With the address given, torchrun does not resolve its host name, which needs a network.
    command += ["--standalone", "--local-addr=127.0.0.1", str(script), mode]
    # WANDB_SERVICE would lead the processes to the wandb-core of this one.
    env = {k: v for k, v in os.environ.items() if k != "WANDB_SERVICE"} | python_path()
    subprocess.run(command, check=True, cwd=folder, env=env, timeout=180, capture_output=True)


@pytest.mark.parametrize("mode", ["main", "each"])
def test_two_processes(tmp_path, mode):
    """The job ends with the weights of a job without the callback, and each run has its rows."""
    train("none", tmp_path)
    train(mode, tmp_path)

    expected, found = torch.load(tmp_path / "none0.pt"), torch.load(tmp_path / f"{mode}0.pt")
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))
    logs = sorted(tmp_path.glob("rank*.log"))
    assert len(logs) == (2 if mode == "each" else 1)
    for log in logs:
        rows = read_run(log.read_text()).rows
        assert [row["train_step"] for row in rows if "raw_loss" in row] == [0, 1]
