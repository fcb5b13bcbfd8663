"""
Measure the time that a W&B callback adds to a training step: samerun's against fastai's.

fastai's own callback works only with older releases. Install the newest set in which it works
into a separate folder, and pass that folder::

    pip install --no-deps --target peer fastai==2.8.8 fastcore==2.2.20 fasttransform==0.0.2
    OMP_NUM_THREADS=1 python benchmarks/callback_overhead.py peer

Both are measured with the fastai in that folder and in one process. Their fits alternate with
fits without a callback, and the steps cost almost nothing. Predictions are switched off, because
they are made only once per fit. Times are CPU time of the main thread and wall time: the median
over the rounds of (with callback - without), per training step.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

_KEYS, _CLASSES, _ITEMS, _WIDTH = 30, 2, 64, 32


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("peer", nargs="?", help="folder with an older fastai; default: none")
    parser.add_argument("--steps", type=int, default=1000, help="training steps of each fit")
    parser.add_argument("--rounds", type=int, default=5, help="fits of each kind")
    options = parser.parse_args(argv)
    if options.peer:
        sys.path.insert(0, options.peer)
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"WANDB_MODE": "offline", "WANDB_DIR": folder, "WANDB_SILENT": "true"}
        os.environ["WANDB_ERROR_REPORTING"] = "false"
        measured = _measure(_callbacks(with_peer=bool(options.peer)), options.steps, options.rounds)
    _report(measured)


def _callbacks(*, with_peer: bool) -> dict[str, Callable[[], Any]]:
    found: dict[str, Callable[[], Any]] = {"none": list}
    if with_peer:
        from fastai.callback.wandb import WandbCallback as Peer

        found["fastai"] = lambda: Peer(log_preds=False)
    from samerun.callback.wandb import WandbCallback

    return found | {"samerun": lambda: WandbCallback(log_preds=False)}


def _measure(
    callbacks: dict[str, Callable[[], Any]], steps: int, rounds: int
) -> dict[str, list[tuple[float, float]]]:
    """Return CPU and wall seconds per step of each round, by the name of the callback."""
    import wandb

    wandb.init(project="benchmark", settings=wandb.Settings(x_disable_stats=True))
    learners = {name: _learner(make(), steps) for name, make in callbacks.items()}
    for learn in learners.values():
        _fit(learn, steps)  # warm up
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in learners}
    for _ in range(rounds):
        for name, learn in learners.items():
            measured[name].append(_fit(learn, steps))
    wandb.finish()
    return measured


def _learner(cbs: Any, steps: int) -> Any:
    import torch
    from fastai.basics import DataLoaders, Learner

    torch.set_num_threads(1)
    batch = (torch.randn(_ITEMS, _KEYS), torch.randint(_CLASSES, (_ITEMS,)))
    dls = DataLoaders(_Prepared(batch, steps), _Prepared(batch, 1))
    layers = [torch.nn.Linear(_KEYS, _WIDTH), torch.nn.ReLU(), torch.nn.Linear(_WIDTH, _CLASSES)]
    learn = Learner(dls, torch.nn.Sequential(*layers), torch.nn.CrossEntropyLoss(), cbs=cbs)
    learn.logger = lambda *_: None
    return learn.remove_cb(learn.progress) if hasattr(learn, "progress") else learn


class _Prepared:
    """A data loader that returns the same batch every time, so that loading costs nothing."""

    def __init__(self, batch: Any, size: int) -> None:
        self.batch, self.size, self.dataset, self.bs = batch, size, range(size), len(batch[0])
        self.n_inp, self.device = 1, batch[0].device

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Any:
        return iter([self.batch] * self.size)

    def one_batch(self) -> Any:
        """Return the batch."""
        return self.batch

    def to(self, device: Any) -> None:
        """Do nothing."""


def _fit(learn: Any, steps: int) -> tuple[float, float]:
    cpu, wall = time.thread_time(), time.perf_counter()
    learn.fit(1)
    return (time.thread_time() - cpu) / steps, (time.perf_counter() - wall) / steps


def _report(measured: dict[str, list[tuple[float, float]]]) -> None:
    import wandb
    from fastai import __version__ as fastai

    lines = [f"fastai {fastai}, wandb {wandb.__version__}, added per step (median of rounds)"]
    base = measured.pop("none")
    for name, rounds in measured.items():
        pairs = [zip(a, b, strict=True) for a, b in zip(rounds, base, strict=True)]
        added = [[1e6 * (x - y) for x, y in pair] for pair in pairs]
        cpu, wall = (statistics.median(column) for column in zip(*added, strict=True))
        lines.append(f"{name:8} {cpu:8.0f} us main-thread CPU {wall:8.0f} us wall")
    step = 1e6 * statistics.median(cpu for cpu, _ in base)
    lines.append(f"(a step without a callback: {step:.0f} us of CPU)")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1] / "src"))
    main()
