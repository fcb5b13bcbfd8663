"""
Kill trainings at random moments until they end, sync them, and count the damage on the server.

    python benchmarks/soak.py [--kills 100] [--seed 0] [--kinds script,tabular,script2,tabular2]

Needs fastai, wandb and what the stand-in of the tests needs in this Python, but no Docker: every
start is a fork of this process that runs the same worker as the container. A kind is a script with
rows of its own, or a recipe, on one process or two. Every second run is online, and its server
refuses or fails for a while. Each run is then synced, which is killed once as well. Prints the
number of rows and artifacts that the server lacks or has twice, and of runs with different bits.
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
from collections import Counter
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


class OwnRows(Callback):
    def after_batch(self):
        if self.training and wandb.run is not None:
            wandb.log({"own/part": self.iter}, commit=False)
            wandb.log({"own/step": self.iter})

    def after_epoch(self):
        if wandb.run is not None:
            wandb.log({"own_table": wandb.Table(columns=["epoch"], data=[[self.epoch]])})


if int(os.environ.get("RANK", 0)) == 0:
    wandb.init(project="soak")
    wandb.log({"own/before": 1})
learn = Learner(
    loaders, model, loss_func=CrossEntropyLossFlat(), metrics=accuracy,
    cbs=[MixUp(), SaveModelCallback(monitor="valid_loss"), OwnRows(), WandbCallback(n_preds=4)],
)
if "RANK" in os.environ:
    from fastai.distributed import *

    with learn.distrib_ctx(sync_bn=False):
        learn.fit_one_cycle(12, 1e-2)
else:
    learn.fit_one_cycle(12, 1e-2)
    learn.fit(6, 1e-3)
if wandb.run is not None:
    wandb.log({"own/after": 1})
    wandb.finish()
"""
RECIPE = ("tabular", "--epochs", "20")
# The server's trouble in online runs.
FAULTS = (
    [],
    [{"path": "file_stream", "status": 401}],
    [{"path": "file_stream", "status": 500, "seconds": 4.0}],
    [
        {"path": "file_stream", "status": 429, "seconds": 4.0},
        {"op": "CreateArtifact", "status": 401},
    ],
    [{"hang": True, "seconds": 4.0, "times": 3, "op": "CreateArtifact"}],
)
# A launcher that is stopped before its processes train ends with 128 + the signal.
ENDS_OF_KILLS = (75, -signal.SIGKILL, -signal.SIGTERM, 128 + signal.SIGKILL, 128 + signal.SIGTERM)
COUNTED = (
    *("kills", "runs", "starts", "rows lost", "rows doubled", "artifacts lost"),
    *("artifacts doubled", "W&B runs doubled", "not complete", "bits differing"),
)
NOT_REPEATABLE = {"_timestamp", "_runtime", "_step", "train_samples_per_sec"}


def start(folder, kind):
    """Start a training in *folder*; return the process ID."""
    child = os.fork()
    if child:
        return child
    os.setsid()
    os.environ |= {"SAMERUN_RECORD": f"{folder}/run.json", "WANDB_DIR": str(folder)}
    os.environ["WANDB_DATA_DIR"] = f"{folder}/wandb/data"
    os.chdir(folder)
    log = os.open("log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    command = RECIPE if kind.startswith("tabular") else (str(folder.parent / "soak.py"),)
    if kind.endswith("2"):
        line = ["-m", "samerun.train", "--procs", "2", "--seed", "7", *command]
        os.execv(sys.executable, [sys.executable, *line])
    from samerun.train import worker

    code = 0
    try:
        worker.main(["7", *command])
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


def train_to_the_end(folder, kind, chance=None, longest_s=0.0):
    """Start the training until it ends by itself; return starts, kills and seconds."""
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(RECORD)
    began, kills, starts = time.monotonic(), 0, 0
    while starts < 40:
        child, code = start(folder, kind), None
        starts += 1
        if chance is not None:
            code = wait(child, chance.uniform(0.1, longest_s) * (kills < 6) or 600)
            if code is None:
                kills += 1
                how = signal.SIGTERM if chance.random() < 0.2 else signal.SIGKILL
                os.killpg(child, how)
        while code is None:
            code = wait(child, 60)
        kill_rest(folder)
        if code == 0:
            return starts, kills, time.monotonic() - began
        if code not in ENDS_OF_KILLS:
            sys.exit(f"{folder}: exit code {code}\n{end_of_log(folder)}")
    sys.exit(f"{folder}: did not end in 40 starts\n{end_of_log(folder)}")


def end_of_log(folder):
    """Return the last lines of the log, which goes away with the folder."""
    lines = (folder / "log.txt").read_text(errors="replace").splitlines()
    return "\n".join(lines[-60:])


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


def delivered(folder, server, chance=None):
    """Sync the run, once killed if *chance* is given; return what the server lacks then."""
    if chance is not None and not os.fork():
        os.setsid()
        delivering.deliver(folder, server)
        os._exit(0)
    if chance is not None:
        time.sleep(chance.uniform(1.0, 4.0))
        kill_syncs(folder)
        time.sleep(1)
    return delivering.deliver(folder, server)


def kill_syncs(folder):
    """Kill the fork of this process that syncs, and wandb's processes that it has started."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (process / "cmdline").read_bytes().split(b"\0")
            parent = int((process / "stat").read_text().rsplit(")", 1)[1].split()[1])
            if parent == os.getpid() or any(w.startswith(bytes(folder / "outbox")) for w in words):
                os.killpg(int(process.name), signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(-1, 0)


def content(server):
    """Return what the server has, as it is compared: rows and artifacts, and how often."""
    name = delivering.run(server).name
    kept = [{k: v for k, v in row.items() if k not in NOT_REPEATABLE} for row in rows_of(server)]
    rows = Counter(str(sorted(_plain(row).items())) for row in kept)
    artifacts = {k.replace(name, "ID"): n for k, n in delivering.artifacts(server).items()}
    return rows, Counter({k: n for k, n in artifacts.items() if k != "run-record-ID"})


def rows_of(server):
    return delivering.rows(server)


def _plain(row):
    """Return a row without the names of files, which differ in each start."""
    return {k: "media" if isinstance(v, dict) else v for k, v in row.items()}


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


def damage(folder, server, expected, chance):
    """Sync the run; return what is lost and doubled on the server, of rows and artifacts."""
    found = delivered(folder, server, chance)
    more = len(server.store.runs) - 1
    if more:
        print(f"{folder.name}: the server has the runs {', '.join(server.store.runs)}")
        return Counter({"W&B runs doubled": more})
    rows, artifacts = content(server)
    if not found.is_complete or rows != expected[0] or artifacts != expected[1]:
        print(f"{folder.name}: {found.line()}; {expected[0] - rows}; {rows - expected[0]}; "
              f"{expected[1] - artifacts}; {artifacts - expected[1]}")  # fmt: skip
    return Counter(
        {
            "rows lost": (expected[0] - rows).total(),
            "rows doubled": (rows - expected[0]).total(),
            "artifacts lost": (expected[1] - artifacts).total(),
            "artifacts doubled": (artifacts - expected[1]).total(),
            "not complete": int(not found.is_complete),
        }
    )


@contextlib.contextmanager
def serving(folder, faults=()):
    """Serve W&B, to runs that are online as well; without faults from the end of the block on."""
    keys = [delivering.KEY]
    # Werkzeug's threads and this process's forks: the server has a process of its own parent.
    with wbserver.make_server(folder, entity="ent", api_keys=keys, report_line_count=True) as one:
        one.store.faults = [wbserver.Fault(**fault) for fault in faults]
        os.environ |= {"WANDB_BASE_URL": one.url, "WANDB_API_KEY": delivering.KEY}
        yield one


def undisturbed(top, kind):
    """Train without a kill; return bits, what the server has of it, and seconds."""
    folder = top / f"{kind}-whole"
    seconds = train_to_the_end(folder, kind)[2]
    with serving(top / f"{kind}-whole-server") as server:
        found = delivered(folder, server)
        assert found.is_complete, found.line()
        return bits(folder), content(server), seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=1e6)
    parser.add_argument("--kinds", default="script,tabular,script2,tabular2")
    given = parser.parse_args()
    chance, until = random.Random(given.seed), time.monotonic() + 60 * given.minutes
    kinds, total, number = given.kinds.split(","), Counter(), 0
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        (top / "soak.py").write_text(SCRIPT)
        expected = {kind: undisturbed(top, kind) for kind in kinds}
        while total["kills"] < given.kills and time.monotonic() < until:
            kind, folder = kinds[number % len(kinds)], top / f"run{number}"
            bit, whole, longest_s = expected[kind]
            is_online = number // len(kinds) % 2 == 1
            faults = chance.choice(FAULTS) if is_online else []
            with serving(top / f"server{number}", faults) as server:
                os.environ["WANDB_MODE"] = "online" if is_online else "offline"
                starts, kills, _ = train_to_the_end(folder, kind, chance, longest_s)
                server.store.faults = []
                total += damage(folder, server, whole, chance)
            total += Counter(kills=kills, starts=starts, runs=1)
            total += Counter({"bits differing": int(bits(folder) != bit)})
            number += 1
            mode = f"online {faults}" if is_online else "offline"
            print(f"run {number}: {kind}, {mode}, {kills} kills; {dict(total)}", flush=True)
    print(", ".join(f"{name} {total[name]}" for name in COUNTED))
    sys.exit(any(total[name] for name in COUNTED[3:]))


if __name__ == "__main__":
    os.environ |= {
        "SAMERUN_RECORD": "/dev/null",
        "SAMERUN_CHECKPOINTS": "epochs=1,batches=4,minutes=0,keep=2",
        "WANDB_MODE": "offline",
        "WANDB_SILENT": "true",
        "WANDB_INIT_TIMEOUT": "20",
        "ACCELERATE_USE_CPU": "true",
        "WANDB_ERROR_REPORTING": "false",
        "OMP_NUM_THREADS": "1",
    }
    import samerun.train.hook  # noqa: F401, I001 - before the frameworks, as in the image

    import fastai.vision.all  # noqa: F401

    TESTS = Path(__file__).resolve().parents[1] / "tests"
    sys.path[:0] = [str(TESTS / "train"), str(TESTS / "standin")]
    os.environ["PYTHONPATH"] = f"{TESTS / 'train' / 'site'}:{os.environ.get('PYTHONPATH', '')}"
    import delivering
    import wbserver

    RECORD = record_of_a_run()
    main()
