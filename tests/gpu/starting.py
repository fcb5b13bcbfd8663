"""Start trainings on the GPU in processes of their own, several beside each other."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from conftest import ON_CPU
from resuming import ours, settings
from sample import sample

from samerun.core import record

HERE = Path(__file__).resolve().parent
# More would wait for each other's imports; the trainings are small.
BESIDE = 2 if ON_CPU else 8
OFTEN = "epochs=1,batches=3,minutes=0,keep=2"
LIMIT_S = 240


def environment(folder, policy=OFTEN, **other):
    """Return the environment of a run's container that asked for one GPU."""
    values = {**ours(), **settings(folder, policy), "SAMERUN_GPUS": "" if ON_CPU else "1", **other}
    if not ON_CPU:
        values.pop("ACCELERATE_USE_CPU")
    return {name: value for name, value in values.items() if value}


def train(folder, target, *options, procs=1, entry=(), **other):
    """Run one start of the script or recipe *target* in the run's *folder*."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "run.json").exists():
        record.write(folder, sample())
    command = [sys.executable, "-m", "samerun.train", "--procs", procs, "--seed", 7, *entry]
    done = subprocess.run(
        list(map(str, [*command, target, *options])),
        cwd=folder,
        env=environment(folder, **other),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=LIMIT_S,
    )
    with (folder / "log.txt").open("a") as log:
        log.write(done.stdout)
    return done.returncode


def script(name):
    return HERE / f"{name}.py"


def beside(jobs):
    """Call all of *jobs*, some at the same time; return what they returned, in order."""
    with ThreadPoolExecutor(BESIDE) as pool:
        return list(pool.map(lambda job: job(), jobs))


def measured(folder, name, *options, **other):
    """Run the script *name*, and return the JSON of its last line."""
    code = train(folder, script(name), *options, policy="", **other)
    log = (folder / "log.txt").read_text()
    assert code == 0, log
    return json.loads(log.strip().splitlines()[-1])
