"""The metrics of an epoch, by their names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from samerun.callback.stream.rows import to_number

# A metric whose name holds one of these is better when smaller.
_SMALLER = ("loss", "error", "mse", "mae", "rmse", "perplexity", "hamming", "brier", "distance")
# One chart each for the elements of an array-valued metric, but not for a thousand.
_MOST_ELEMENTS = 64


def epoch_metrics(recorder: Any) -> dict[str, Any]:
    """
    Return the values of the epoch that *recorder* just ended, by the names fastai prints.

    The epoch's number, its duration and the training loss are left out: they are in the
    row already. Dictionaries, tuples and arrays become one value per element.
    """
    names, values = _names(recorder), list(getattr(recorder, "log", []))
    if len(names) != len(values):
        return {}
    found: dict[str, Any] = {}
    for name, value in zip(names, values, strict=True):
        if name not in ("epoch", "train_loss", "time"):
            found |= flat(str(name), value)
    return found


def flat(name: str, value: Any) -> dict[str, Any]:
    """Return *value* as plain numbers: ``{"f1": [a, b]}`` is ``{"f1_0": a, "f1_1": b}``."""
    if isinstance(value, torch.Tensor) and value.numel() != 1:
        value = value.detach().cpu().flatten().tolist()
    elif getattr(value, "ndim", 0) and hasattr(value, "tolist"):
        value = value.ravel().tolist()
    if isinstance(value, Mapping):
        parts = list(value.items())
    elif isinstance(value, list | tuple):
        parts = list(enumerate(value))[:_MOST_ELEMENTS]
    else:
        number = to_number(value)
        return {} if number is None else {name: number}
    return {k: v for key, part in parts for k, v in flat(f"{name}_{key}", part).items()}


def best_is_min(name: str) -> bool:
    """Say whether small values of the metric *name* are good, by fastai's rule and more names."""
    return any(part in name.lower() for part in _SMALLER)


def _names(recorder: Any) -> list[str]:
    """
    Return the names that belong to ``recorder.log``.

    A canceled training or validation leaves its values out, which shifts the others;
    paired by position they would appear under each other's names (fastai issue 3068).
    """
    names = list(getattr(recorder, "metric_names", []))
    tail = ["time"] if recorder.add_time else []
    metrics = len(recorder.metrics) if recorder.train_metrics else 0
    train = names[1 : 2 + metrics]
    valid = names[2 + metrics : len(names) - len(tail)]
    if recorder.train_metrics and not recorder.valid_metrics:
        train, valid = names[1 : len(names) - len(tail)], []
    if getattr(recorder, "cancel_train", False):
        train = []
    if getattr(recorder, "cancel_valid", False):
        valid = []
    return names[:1] + train + valid + tail
