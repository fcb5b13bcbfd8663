"""
Time the same training through `invoke train`, a bare `docker run`, and on the host.

Usage: python benchmarks/launch.py [--rounds 3] [--epochs 2] [--host-python PYTHON]

PYTHON belongs to an environment with the packages of uv.lock (`uv sync --group image
--group cuda13`); without it the host is left out. The three alternate, because machines
are noisy: compare the ratios of the medians, not the seconds.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OFFLINE = {"WANDB_MODE": "offline", "WANDB_ERROR_REPORTING": "false"}


def through_kit(folder, epochs):
    """Return the command that a user types."""
    command = [sys.executable, "-m", "invoke", "train", "digits", "--gpus", "0"]
    return [*command, "--output", folder, "--", "--epochs", epochs]


def through_docker(folder, epochs):
    """Return the shortest command that trains in the same image."""
    digest = ["docker", "inspect", "--format", "{{.Id}}", "samerun:cuda13"]
    image = subprocess.run(digest, capture_output=True, text=True, check=True).stdout.strip()
    variables = [f"--env={name}={value}" for name, value in OFFLINE.items()]
    mount = f"--mount=type=bind,source={folder},target=/output"
    flags = ["docker", "run", "--rm", "--user=0:0", mount, *variables]
    return [*flags, image, "digits", "--epochs", epochs]


def on_host(python, epochs):
    """Return the same training without a container."""
    return [python, "-m", "samerun.train", "digits", "--epochs", epochs]


def timed(command, folder):
    """Run *command* in *folder*; return its wall-clock seconds."""
    environment = {**os.environ, **OFFLINE, "PYTHONPATH": str(ROOT / "src")}
    cwd = ROOT if "invoke" in command else folder
    began = time.monotonic()
    subprocess.run(command, cwd=cwd, env=environment, check=True, capture_output=True)
    return time.monotonic() - began


def first_batch(folder):
    """Return the seconds from `invoke train` to the first batch, from the run's record."""
    (record,) = Path(folder).glob("*/run.json")
    return json.loads(record.read_text())["outcome"]["first_batch_s"]


def main():
    """Alternate between the three, then print medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", default="2")
    parser.add_argument("--host-python")
    options = parser.parse_args()
    seconds = {"docker run": [], "invoke train": [], "host": []}
    firsts = []
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory() as folder:
            bare = through_docker(folder, options.epochs)
            seconds["docker run"].append(timed(bare, folder))
        with tempfile.TemporaryDirectory() as folder:
            seconds["invoke train"].append(timed(through_kit(folder, options.epochs), folder))
            firsts.append(first_batch(folder))
        if options.host_python:
            with tempfile.TemporaryDirectory() as folder:
                command = on_host(options.host_python, options.epochs)
                seconds["host"].append(timed(command, folder))
    base = statistics.median(seconds["docker run"])
    for name, values in seconds.items():
        if values:
            median = statistics.median(values)
            shown = " ".join(f"{value:.1f}" for value in values)
            print(f"{name:<13} {median:6.1f} s   {median / base:.2f} x docker run   ({shown})")
    print(f"first batch   {statistics.median(firsts):6.1f} s after `invoke train`")


if __name__ == "__main__":
    main()
