"""Start trainings of `learners` in processes of their own, and read what they left."""

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

from preloaded import Preloaded
from sample import sample

from samerun.core import record

HERE = Path(__file__).resolve().parent
# What fastai itself loads, and nothing that the hook looks at. OpenMP reads its variable then.
FRAMEWORKS = Preloaded(
    """
import sys
import matplotlib.pyplot, pandas, PIL.Image, scipy.stats, sklearn.metrics, sklearn.model_selection
import torch.distributed, torchvision.models
# In the image, every Python loads the hook; each fork is to load it itself, with its environment.
sys.meta_path[:] = [f for f in sys.meta_path if not f.__module__.startswith("samerun")]
for name in [name for name in sys.modules if name.partition(".")[0] == "samerun"]:
    del sys.modules[name]
assert not {"fastai", "fastcore", "wandb"} & set(sys.modules)
""",
    OMP_NUM_THREADS="1",
)
FORKING = f"""
import runpy, samerun.train.hook
runpy.run_path({str(HERE / "forking.py")!r}, run_name="__main__")
"""
EVERY_STEP = "epochs=1,batches=1,minutes=0,keep=2"
EVERY_EPOCH = "epochs=1,minutes=0"


def ours():
    """Return this process's environment, but for the W&B service that it may have started."""
    return {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}


def settings(folder, policy):
    """Return the environment that the host gives a run's container."""
    paths = [str(HERE / "site"), os.environ.get("PYTHONPATH", "")]
    return {
        "SAMERUN_RECORD": str(folder / "run.json"),
        "SAMERUN_CHECKPOINTS": policy,
        "PYTHONPATH": ":".join(filter(None, paths)),
        "OMP_NUM_THREADS": "1",
        "ACCELERATE_USE_CPU": "true",
        "WANDB_MODE": "offline",
    }


def command(name, *options, procs=1):
    """Return the entry's command line for the training *name* of `learners` or `ddp_learners`."""
    script = HERE / ("ddp_learners.py" if name == "distributed" else "learners.py")
    entry = ["-m", "samerun.train", "--procs", procs, "--seed", 7]
    return [sys.executable, *map(str, [*entry, script, name, *options])]


def train(folder, name, *options, procs=1, policy=EVERY_STEP, **environment):
    """Run one start of the training *name* in the run's *folder*, as the container would."""
    return subprocess.run(
        command(name, *options, procs=procs),
        cwd=folder,
        env={**ours(), **settings(folder, policy), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def fork(jobs, policy=EVERY_STEP, **environment):
    """
    Run (folder, arguments of `learners`), one after the other; return the exit codes.

    Each in a fork of one process that has loaded the frameworks: that takes the longest.
    """
    for folder, _ in jobs:
        folder.mkdir(parents=True, exist_ok=True)
        record.write(folder, sample())
    told = {
        "jobs": [(str(folder), list(map(str, arguments))) for folder, arguments in jobs],
        "environment": {**ours(), **settings(jobs[0][0], policy), **environment},
    }
    asking, answers = forking(policy, os.environ.get("SAMERUN_STOP_ON_NAN", ""))
    asking.write(f"{json.dumps(told)}\n")
    asking.flush()
    return json.loads(answers.readline())


@functools.cache
def forking(policy, stop_on_nan):
    """Start the process that forks, and ends with this one; its hook reads the arguments then."""
    environment = {**ours(), **settings(HERE, policy), "SAMERUN_STOP_ON_NAN": stop_on_nan}
    return FRAMEWORKS.start(FORKING, environment)


def part(folder, name):
    return json.loads((folder / ".samerun" / f"{name}.json").read_text())


def outcome(folder):
    """Return all that must be the same to the last bit."""
    result = part(folder, "result")
    steps = (folder / ".samerun" / "epochs.jsonl").read_text()
    return {
        "weights": result["weights_sha256"],
        "history": result["metric_history_sha256"],
        "steps": [json.loads(line) for line in steps.splitlines()],
    }


def checkpoints(folder):
    return sorted(path.stem for path in (folder / "checkpoints").glob("*.json"))


def log(folder):
    """Return what `fork`'s processes in *folder* printed."""
    return (folder / "log.txt").read_text()
