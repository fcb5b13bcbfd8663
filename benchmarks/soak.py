"""
Kill trainings at random moments until they end, many times, and count the damage.

    python benchmarks/soak.py [--kills 50] [--seed 0]

Needs fastai and wandb in this Python, but no Docker: every start is a fork of this process that
runs the same worker as the container. Prints the number of lost and duplicated rows, of runs with
different bits, and of starts.
"""

import argparse
import contextlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

SCRIPT = """
import wandb
from fastai.vision.all import *
from samerun.callback.wandb import WandbCallback

rng = np.random.RandomState(0)
items = [(rng.randint(0, 255, (16, 16, 3), dtype=np.uint8), i % 2) for i in range(96)]
loaders = DataBlock(
    blocks=(ImageBlock, CategoryBlock), get_x=ItemGetter(0), get_y=ItemGetter(1),
    splitter=RandomSplitter(seed=1), item_tfms=RandomResizedCrop(16),
    batch_tfms=aug_transforms(size=16),
).dataloaders(items, bs=8, num_workers=0)
model = nn.Sequential(
    nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.3),
    nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2),
)
with wandb.init(project="soak"):
    learn = Learner(
        loaders, model, loss_func=CrossEntropyLossFlat(), metrics=accuracy,
        cbs=[MixUp(), SaveModelCallback(monitor="valid_loss"), WandbCallback(log_preds=False)],
    )
    learn.fit_one_cycle(12, 1e-2)
    learn.fit(6, 1e-3)
"""
STEPS = 18 * 9


def start(folder, script):
    """Start a training in *folder*; return the process ID."""
    child = os.fork()
    if child:
        return child
    os.setsid()
    os.environ["SAMERUN_RECORD"] = f"{folder}/run.json"
    os.chdir(folder)
    log = os.open("log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    from samerun.train import worker

    code = 0
    try:
        worker.main(["7", str(script)])
    except SystemExit as stop:
        code = stop.code
    except BaseException:  # noqa: BLE001 - the log gets the traceback, the parent the code
        import traceback

        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    os._exit(code or 0)


def wait(child, seconds):
    """Return the exit code, or None if the process still runs after *seconds*."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    return None


def train_to_the_end(folder, script, chance=None, longest_s=0.0):
    """Start the training until it ends by itself; return starts, kills and seconds."""
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(RECORD)
    began, kills, starts = time.monotonic(), 0, 0
    while True:
        child, code = start(folder, script), None
        starts += 1
        if chance is not None:
            code = wait(child, chance.uniform(0.1, longest_s))
            if code is None:
                kills += 1
                how = signal.SIGTERM if chance.random() < 0.2 else signal.SIGKILL
                os.killpg(child, how)
        while code is None:
            code = wait(child, 60)
        kill_rest(folder)
        if code == 0:
            return starts, kills, time.monotonic() - began
        if code not in (75, -signal.SIGKILL, -signal.SIGTERM):
            sys.exit(f"{folder}: exit code {code}, see its log.txt")


def kill_rest(folder):
    """Kill processes that a start left running (wandb's), as the end of a container does."""
    mark = f"SAMERUN_RECORD={folder}/run.json".encode()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark in (process / "environ").read_bytes().split(b"\0"):
                os.kill(int(process.name), signal.SIGKILL)
    time.sleep(0.05)


def bits(folder):
    """Return the hash of the weights, the hash of the metric history, and the exact epochs."""
    result = json.loads((folder / ".samerun" / "result.json").read_text())
    epochs = (folder / ".samerun" / "epochs.jsonl").read_text()
    return result["weights_sha256"], result["metric_history_sha256"], epochs


def steps_logged(folder):
    """Return the step of every row in the W&B run, over all its segments."""
    from samerun.train.hooks import wandb_log

    steps = []
    for path in wandb_log.find([str(folder / "wandb" / "x")]):
        for entry in wandb_log.records(path.read_bytes()):
            if entry.WhichOneof("record_type") == "history":
                items = {i.key or ".".join(i.nested_key): i.value_json for i in entry.history.item}
                steps += [int(items["train_step"])] if "train_loss" in items else []
    return steps


def record_of_a_run():
    """Return the record that the host would have written."""
    from samerun.core import record

    image = record.Image(
        reference="soak@sha256:" + "0" * 64,
        digest="0" * 64,
        digest_kind="manifest",
        layers_digest="",
        store="containerd",
        platform="linux/amd64",
        base=record.Base(reference="", origin="unknown"),
    )
    run = record.Run(
        name="soak",
        image=image,
        code=record.Code(kind="script", target="soak.py", where="image"),
        command=("soak.py",),
        arguments=(),
        seed=7,
        topology=record.Topology(gpus="0", procs=1, shm_size="1g"),
        hardware=record.Hardware(cpu="", cores=1, memory_bytes=0, kernel="", engine=""),
        outcome=record.Outcome(created="2026-01-01T00:00:00+00:00"),
    )
    return record.to_json(run)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    chance = random.Random(given.seed)
    with tempfile.TemporaryDirectory() as top:
        script = Path(top) / "soak.py"
        script.write_text(SCRIPT)
        _, _, undisturbed_s = train_to_the_end(Path(top) / "whole", script)
        expected = bits(Path(top) / "whole")
        kills = starts = runs = lost = doubled = differing = 0
        seconds = 0.0
        while kills < given.kills:
            folder = Path(top) / f"run{runs}"
            more = train_to_the_end(folder, script, chance, undisturbed_s)
            starts, kills, seconds = starts + more[0], kills + more[1], seconds + more[2]
            runs += 1
            logged = steps_logged(folder)
            lost += len(set(range(STEPS)) - set(logged))
            doubled += len(logged) - len(set(logged))
            differing += bits(folder) != expected
            print(f"run {runs}: {more[1]} kills, {more[2]:.1f} s", flush=True)
        print(f"kills {kills}, runs {runs}, starts {starts}, steps of each run {STEPS}")
        print(f"rows lost {lost}, rows duplicated {doubled}, runs with different bits {differing}")
        per_kill = (seconds - runs * undisturbed_s) / max(kills, 1)
        print(f"uninterrupted {undisturbed_s:.1f} s; each kill cost {per_kill:.1f} s more")
    sys.exit(bool(lost or doubled or differing))


if __name__ == "__main__":
    os.environ |= {
        "SAMERUN_RECORD": "/dev/null",
        "SAMERUN_CHECKPOINTS": "epochs=1,batches=4,minutes=0,keep=2",
        "WANDB_MODE": "offline",
        "WANDB_SILENT": "true",
        "WANDB_ERROR_REPORTING": "false",
        "OMP_NUM_THREADS": "1",
    }
    import samerun.train.hook  # noqa: F401, I001 - before the frameworks, as in the image

    import fastai.vision.all  # noqa: F401

    RECORD = record_of_a_run()
    main()
