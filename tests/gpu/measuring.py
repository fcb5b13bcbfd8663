"""
Steps of a ResNet with and without the callback: seconds, synchronizations, weights, rows.

Prints a JSON object. The data lies on the device, so that nothing but the step is measured.
"""

import hashlib
import json
import os
import statistics
import sys
import time
import warnings

import torch
import wandb
from fastai.vision import all as vision

from samerun.callback.wandb import WandbCallback

ON_GPU = torch.cuda.is_available()
# With its number, as fastai compares it with the model's.
DEVICE = torch.device("cuda", 0) if ON_GPU else torch.device("cpu")
STEPS, SIZE, BATCH = (100, 64, 64) if ON_GPU else (3, 32, 4)
ROUNDS = 5 if ON_GPU else 1


class Prepared:
    """A loader of one batch, that lies on the device."""

    n_inp, device = 1, DEVICE

    def __init__(self, batch, steps):
        self.batch, self.steps, self.dataset, self.bs = batch, steps, range(steps), len(batch[0])

    def __len__(self):
        return self.steps

    def __iter__(self):
        return iter([self.batch] * self.steps)

    def one_batch(self):
        return self.batch

    def to(self, device):
        pass


def learner(*cbs, small=False):
    torch.manual_seed(3)
    batch = (
        torch.randn(BATCH, 3, SIZE, SIZE, device=DEVICE),
        torch.arange(BATCH, device=DEVICE) % 10,
    )
    net = (
        torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * SIZE**2, 10))
        if small
        else (vision.xresnet18(n_out=10))
    )
    dls = vision.DataLoaders(Prepared(batch, STEPS), Prepared(batch, 2))
    learn = vision.Learner(dls, net.to(DEVICE), torch.nn.CrossEntropyLoss(), cbs=list(cbs))
    learn.logger = lambda *_: None
    return learn.remove_cb(learn.progress) if hasattr(learn, "progress") else learn


def wait():
    if ON_GPU:
        torch.cuda.synchronize()


def fit(learn, small=False):
    wait()
    began, cpu = time.perf_counter(), time.thread_time()
    learn.fit(1, 1e-3)
    wait()
    return (time.perf_counter() - began) / STEPS, (time.thread_time() - cpu) / STEPS


def synchronizations(learn):
    """Return how often the host waits for the device in a step, as torch warns of it."""
    if not ON_GPU:
        return 0
    torch.cuda.set_sync_debug_mode("warn")
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        learn.fit(1, 1e-3)
    torch.cuda.set_sync_debug_mode("default")
    return sum("synchronizing" in str(warning.message) for warning in heard)


def digest(learn):
    sha = hashlib.sha256()
    for tensor in learn.model.state_dict().values():
        sha.update(tensor.cpu().contiguous().numpy().tobytes())
    return sha.hexdigest()


def compare(small):
    """Return step times with the callback over those without, in turns."""
    learners = {"none": learner(small=small), "samerun": learner(callback(), small=small)}
    for learn in learners.values():
        fit(learn)
    times = {name: [] for name in learners}
    for _ in range(ROUNDS):
        for name, learn in learners.items():
            times[name].append(fit(learn))
    wall, cpu = ({n: statistics.median(t[i] for t in v) for n, v in times.items()} for i in (0, 1))
    return {
        "step_ms": round(1e3 * wall["none"], 3),
        "ratio": round(wall["samerun"] / wall["none"], 3),
        "added_cpu_us": round(1e6 * (cpu["samerun"] - cpu["none"])),
    }


def callback():
    return WandbCallback(log_preds=False, log_model=False)


def rows(run):
    """Return the keys of GPU memory among those of the last row."""
    return sorted(key for key in run.summary.keys() if "gpu" in key)  # noqa: SIM118


def step_only():
    """Print the median milliseconds of a step, as the start's settings have it."""
    learn = learner()
    fit(learn)
    print()
    print(json.dumps({"step_ms": 1e3 * statistics.median(fit(learn)[0] for _ in range(ROUNDS))}))


def everything():
    with wandb.init(project="gpu", dir=os.getcwd()) as run:
        plain, logged = learner(), learner(callback())
        found = {
            "synchronizations without": synchronizations(plain) / STEPS,
            "synchronizations with": synchronizations(logged) / STEPS,
            "same weights": digest(plain) == digest(logged),
            "resnet": compare(small=False),
            "linear": compare(small=True),
            "rows": rows(run),
        }
    print()
    print(json.dumps(found))


if __name__ == "__main__":
    step_only() if sys.argv[1:] == ["step"] else everything()
