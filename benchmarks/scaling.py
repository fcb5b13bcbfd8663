"""
What grows with the number of machines, on paper: images, checkpoints, data, W&B.

Usage: python benchmarks/scaling.py

Prints the tables of docs/scaling.md, always the same. Sizes of layers are measured, W&B's
limits are those that it documents; bandwidths and rates are assumptions, named here.
"""

import math
import random
import statistics
from dataclasses import dataclass

# Bytes of the layers as they lie in a registry (CUDA 13, torch 2.15.0, zstd).
LAYERS = {"base": 36_504_676, "torch and CUDA": 2_408_603_319, "packages": 183_327_367}
LAYERS |= {"code": 177_121}
UNPACKED = 4.93e9
IMAGE = sum(LAYERS.values())
CHANGED = {
    "everything": IMAGE,
    "packages and code": LAYERS["packages"] + LAYERS["code"],
    "code": LAYERS["code"],
}

GBIT = 1e9 / 8
MACHINE = 10 * GBIT
# Machines start one after the other within this time, at random.
STARTS_WITHIN_S = 60
# Decompressing and writing, one layer after the other: a cloud VM's disk.
UNPACKS_BYTES_S = 400e6
STEP_S = 0.5
FLEETS = (10, 100, 1000)

# Adam in float32: the weights, and two moments of the same size.
BYTES_PER_PARAMETER = 12
MODELS = {"ResNet-18": 11.7e6, "ResNet-50": 25.6e6, "ViT-L": 304e6, "1 B": 1e9, "7 B": 7e9}
WRITES_BYTES_S = 500e6
# A spot machine lasts this long, on average.
SPOT_LIFE_S = 12 * 3600

IMAGES_PER_GPU_S = 1200
IMAGE_BYTES = 110_000
GPUS_PER_MACHINE = 8

# https://docs.wandb.ai/platform/hosting/hosting-options/dedicated-cloud/rate-limits
REQUESTS_PER_PROJECT_S = 500
RUNS_CREATED_S = 80
# wandb's own: what was logged goes out together, once in so many seconds.
SENDS_EVERY_S = 15


@dataclass(frozen=True)
class Fleet:
    """Seconds from a machine's start until it has unpacked what it pulls."""

    median_s: float
    last_s: float


def pull(machines, size, registry, *, peers=False, seed=0):
    """
    Let *machines* pull *size* bytes from a *registry* of so many bytes per second.

    All that are at it share the registry fairly. With *peers* each also serves on the
    pieces that it has, at up to half its own bandwidth: the ideal that such systems near.
    """
    rng = random.Random(seed)
    starts = sorted(rng.uniform(0, STARTS_WITHIN_S) for _ in range(machines))
    left = [size] * machines
    done = [0.0] * machines
    active, began, now = [], 0, 0.0
    while began < machines or active:
        while began < machines and starts[began] <= now:
            active.append(began)
            began += 1
        pieces = machines - sum(left) / size if peers else 0
        capacity = registry + pieces * MACHINE / 2
        rate = min(MACHINE, capacity / len(active)) if active else 0.0
        now += STEP_S
        for machine in active:
            left[machine] -= rate * STEP_S
            if left[machine] <= 0:
                left[machine] = 0
                done[machine] = now
        active = [machine for machine in active if left[machine] > 0]
    waits = [end - start + unpack(size) for start, end in zip(starts, done, strict=True)]
    return Fleet(median_s=statistics.median(waits), last_s=max(waits))


def unpack(size):
    """Return the seconds that *size* compressed bytes take to be unpacked."""
    return size / IMAGE * UNPACKED / UNPACKS_BYTES_S


def table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def spread(fleet):
    return f"{duration(fleet.median_s)}, {duration(fleet.last_s)}"


def images():
    """How long machines wait, the median and the last, by what changed and who serves it."""
    servers = {
        "one registry, 10 Gbit/s": (10 * GBIT, False),
        "the same, peer-to-peer sharing": (10 * GBIT, True),
        "a cloud registry, 1 Tbit/s": (1000 * GBIT, False),
    }
    rows = [
        [server, changed, *(spread(pull(n, size, rate, peers=peers)) for n in FLEETS)]
        for server, (rate, peers) in servers.items()
        for changed, size in CHANGED.items()
    ]
    return table(["registry", "changed", *(f"{n:,} machines" for n in FLEETS)], rows)


def checkpoints():
    """How large, how long, how often: Young's interval for one machine, and for 32."""
    rows = []
    for name, parameters in MODELS.items():
        size = parameters * BYTES_PER_PARAMETER
        cost = size / WRITES_BYTES_S
        best = {n: math.sqrt(2 * cost * SPOT_LIFE_S / n) for n in (1, 32)}
        # Writing, and on average half an interval made again.
        lost = {n: cost / best[n] + best[n] / 2 / (SPOT_LIFE_S / n) for n in best}
        columns = [f"{duration(best[n])} ({lost[n]:.1%} lost)" for n in best]
        rows.append([name, f"{size / 1e9:.2f} GB", duration(cost), *columns])
    return table(["model", "size", "write time", "interval, 1 machine", "interval, 32 machines"], rows)


def data():
    """Bytes per second that the loaders of a fleet read."""
    each = GPUS_PER_MACHINE * IMAGES_PER_GPU_S * IMAGE_BYTES
    rows = [
        [
            n,
            f"{n * GPUS_PER_MACHINE}",
            f"{n * each / 1e9:.1f} GB/s",
            f"{n * each / GBIT:.0f} Gbit/s",
        ]
        for n in (1, 2, 8, 32)
    ]
    return table(["machines", "GPUs", "read rate", "network rate"], rows)


def logging():
    """Say how many requests reach W&B a second, by who logs, and the share of a project's limit."""
    rows = []
    for ranks in (8, 64, 512, 8192):
        for who, runs in (("rank 0", 1), ("every rank", ranks)):
            rate = runs / SENDS_EVERY_S
            share = f"{rate / REQUESTS_PER_PROJECT_S:.1%}"
            rows.append([ranks, who, runs, f"{rate:.2f}", share, duration(runs / RUNS_CREATED_S)])
    head = ["ranks", "logging ranks", "runs", "requests/s", "share of limit", "time to create runs"]
    return table(head, rows)


def duration(seconds):
    """Return a time in the unit that people would say it in."""
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


TABLES = {"images": images, "checkpoints": checkpoints, "data": data, "logging": logging}

if __name__ == "__main__":
    for title, make in TABLES.items():
        print(f"{title}\n\n{make()}\n")
