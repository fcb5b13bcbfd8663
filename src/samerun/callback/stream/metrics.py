"""The metrics of an epoch, by their names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from fastai.callback.tracker import SaveModelCallback, TrackerCallback

from samerun.callback.stream.rows import to_number

# A metric is better when smaller where its name holds one of these ...
_WITHIN = (
    *("loss", "error", "mse", "mae", "mspe", "mape", "msle", "perplexity", "hamming", "brier"),
    *("distance", "divergence", "deviance", "entropy", "hausdorff", "chamfer", "deviation"),
)
# ... or one of these as a word, ...
_WORDS = {
    *("err", "ppl", "nll", "nlpd", "crps", "wer", "cer", "mer", "eer", "ece", "fid", "kid"),
    *("lpips", "fpr", "fnr", "fdr", "bpc", "bpb", "kl", "kld", "epe", "hd", "hd95", "assd"),
    *("rae", "rse", "wape", "mase", "mpe", "medae", "mdape", "mpjpe", "mcd", "ter", "latency"),
}
# ... but not one of these: negated errors, and shares of an error that is explained.
_GREATER = {"neg", "negative", "d2"}
# One chart each for the elements of an array-valued metric, but not for a thousand.
_MOST_ELEMENTS = 64
# What else is in the rows, besides hyper-parameters.
_RESERVED = {
    *("epoch", "train_step", "train_loss", "raw_loss", "train_samples_per_sec", "grad_norm"),
    *("gpu_memory_gib", "gpu_memory_peak_gib", "_step", "_timestamp", "_runtime", "_wandb"),
    *("Prediction_Samples", "Top_Losses", "requested_step"),
}


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


def distinct(
    values: Iterable[tuple[Any, Any]], hypers: Iterable[str] = ()
) -> tuple[dict[str, Any], dict[str, str]]:
    """
    Return metrics under distinct names, and the names that had to change.

    Args:
        values: Names and values, in the recorder's order. Of two of one name the second is
            called ``f_beta_2``; so is one that has the name of something else in the rows.
        hypers: The names of hyper-parameters in the rows.
    """
    parts = [pair for name, value in values for pair in flat(str(name), value).items()]
    reserved, given = _RESERVED | set(hypers), {name for name, _ in parts}
    found: dict[str, Any] = {}
    renamed: dict[str, str] = {}
    for name, number in parts:
        key, count = name, 1
        while key in found or key in reserved or (count > 1 and key in given):
            count += 1
            key = f"{name}_{count}"
        found[key] = number
        if key != name:
            renamed[key] = name
    return found, renamed


def smaller_is_better(name: str, callbacks: Iterable[Any] = ()) -> bool:
    """
    Say whether small values of the metric *name* are good.

    Args:
        name: The name of the metric.
        callbacks: Those of the learner: where one of them tracks the metric, its ``comp``
            says so. Otherwise names say so: by fastai's rule, and more of them.
    """
    trackers = [cb for cb in callbacks if isinstance(cb, TrackerCallback) and cb.monitor == name]
    for tracker in sorted(trackers, key=lambda cb: not isinstance(cb, SaveModelCallback)):
        try:
            return bool(tracker.comp(0.0, 1.0))
        except Exception:  # noqa: S112 - a comparison of another kind of value
            continue
    words = set(re.split(r"[\W_]+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()))
    if words & _GREATER:
        return False
    return any(part in name.lower() for part in _WITHIN) or bool(words & _WORDS)
