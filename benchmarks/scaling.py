"""
Estimate what grows with the number of machines: images, checkpoints, data, W&B.

Usage: python benchmarks/scaling.py

Prints the tables of docs/scaling.md; the output is always the same. The layer sizes are
measured, W&B's limits are the documented ones, and bandwidths and rates are assumptions, set
below.
"""

import math
import random
import statistics
from dataclasses import dataclass

# Bytes of the layers in a registry (CUDA 13, torch 2.15.0, zstd).
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
# Machines start at random times within this period.
STARTS_WITHIN_S = 60
# Decompressing and writing layers one after the other, to the disk of a cloud VM.
UNPACKS_BYTES_S = 400e6
STEP_S = 0.5
FLEETS = (10, 100, 1000)

# Adam in float32: the weights and two moments of the same size.
BYTES_PER_PARAMETER = 12
MODELS = {"ResNet-18": 11.7e6, "ResNet-50": 25.6e6, "ViT-L": 304e6, "1 B": 1e9, "7 B": 7e9}
WRITES_BYTES_S = 500e6
# Average life of a spot machine.
SPOT_LIFE_S = 12 * 3600

IMAGES_PER_GPU_S = 1200
IMAGE_BYTES = 110_000
GPUS_PER_MACHINE = 8

# https://docs.wandb.ai/platform/hosting/hosting-options/dedicated-cloud/rate-limits
REQUESTS_PER_PROJECT_S = 500
RUNS_CREATED_S = 80
# wandb collects what was logged and sends it once in this period.
SENDS_EVERY_S = 15


@dataclass(frozen=True)
class Fleet:
    """Seconds from a machine's start until it has unpacked the layers that it pulls."""

    median_s: float
    last_s: float


def pull(machines, size, registry, *, peers=False, seed=0):
    """
    Let *machines* pull *size* bytes from a *registry* of that many bytes per second.

    All machines that are pulling share the registry equally. With *peers*, each also serves the
    pieces that it has, at up to half its own bandwidth: the ideal of such systems.
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
    """Return the seconds that it takes to unpack *size* compressed bytes."""
    return size / IMAGE * UNPACKED / UNPACKS_BYTES_S


def table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def spread(fleet):
    return f"{duration(fleet.median_s)}, {duration(fleet.last_s)}"


def images():
    """Return how long machines wait (median, last), by registry and by what changed."""
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
    """Return size, write time and Young's interval of checkpoints, for 1 and 32 machines."""
    rows = []
    for name, parameters in MODELS.items():
        size = parameters * BYTES_PER_PARAMETER
        cost = size / WRITES_BYTES_S
        best = {n: math.sqrt(2 * cost * SPOT_LIFE_S / n) for n in (1, 32)}
        # The writing, and on average half an interval that is trained a second time.
        lost = {n: cost / best[n] + best[n] / 2 / (SPOT_LIFE_S / n) for n in best}
        columns = [f"{duration(best[n])} ({lost[n]:.1%} lost)" for n in best]
        rows.append([name, f"{size / 1e9:.2f} GB", duration(cost), *columns])
    head = ["model", "size", "write time", "interval, 1 machine", "interval, 32 machines"]
    return table(head, rows)


def data():
    """Return the bytes per second that the loaders of all machines read."""
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
    """Return the requests per second to W&B, by logging ranks, and their share of the limit."""
    rows = []
    for ranks in (8, 64, 512, 8192):
        for who, runs in (("rank 0", 1), ("every rank", ranks)):
            rate = runs / SENDS_EVERY_S
            share = f"{rate / REQUESTS_PER_PROJECT_S:.1%}"
            rows.append([ranks, who, runs, f"{rate:.2f}", share, duration(runs / RUNS_CREATED_S)])
    head = ["ranks", "logging ranks", "runs", "requests/s", "share of limit", "time to create runs"]
    return table(head, rows)


def duration(seconds):
    """Return a duration in a suitable unit."""
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


TABLES = {"images": images, "checkpoints": checkpoints, "data": data, "logging": logging}

if __name__ == "__main__":
    for title, make in TABLES.items():
        print(f"{title}\n\n{make()}\n")
