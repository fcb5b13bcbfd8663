# ruff: noqa: PLR2004 - numbers of dimensions and of channels
"""Charts for the end of a classification."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody uses.
import wandb
from fastai.torch_core import TensorCategory

_TOP = 9  # as many as fastai's plot_top_losses shows
# A chart of each of a thousand classes is no chart.
_MOST_CLASSES = 50


def charts(
    learn: Any,
    batches: Iterable[Any],
    indices: Sequence[int],
    table: Callable[[Any, Sequence[int]], dict[str, Any]],
) -> dict[str, Any]:
    """
    Return confusion matrix, ROC and precision-recall curves, and the items of highest loss.

    Args:
        learn: The learner, for the names of the classes.
        batches: Predictions of the items *indices*.
        indices: Indices of the validation set.
        table: Makes a table of the items with some of these indices.

    Returns:
        Nothing, if the targets are not one class of 2 to 50 per item.
    """
    vocab = _vocab(learn)
    if vocab is None:
        return {}
    raw, truth = [], []
    for batch in batches:
        if not _is_classification(batch, len(vocab)):
            return {}
        raw.append(batch.raw.float())
        truth.append(batch.yb[0].as_subclass(torch.Tensor).long().flatten())
    if not raw:
        return {}
    return _curves(torch.cat(raw), torch.cat(truth), vocab) | _top_losses(
        learn, torch.cat(raw), torch.cat(truth), indices, table
    )


def _curves(raw: torch.Tensor, truth: torch.Tensor, vocab: Sequence[str]) -> dict[str, Any]:
    found = {}
    labels, names = truth.tolist(), list(vocab)
    probs: Any = raw.softmax(dim=1).numpy()
    plots: dict[str, Callable[[], Any]] = {
        "confusion_matrix": lambda: wandb.plot.confusion_matrix(
            y_true=labels, preds=raw.argmax(dim=1).tolist(), class_names=names
        ),
        "roc_curve": lambda: wandb.plot.roc_curve(labels, probs, labels=names),
        "pr_curve": lambda: wandb.plot.pr_curve(labels, probs, labels=names),
    }
    for name, plot in plots.items():
        # The curves need scikit-learn, and at least one item of each class.
        with contextlib.suppress(Exception):
            found[name] = plot()
    return found


def _top_losses(
    learn: Any,
    raw: torch.Tensor,
    truth: torch.Tensor,
    indices: Sequence[int],
    table: Callable[[Any, Sequence[int]], dict[str, Any]],
) -> dict[str, Any]:
    losses = F.cross_entropy(raw, truth, reduction="none").nan_to_num()
    top = losses.topk(min(_TOP, len(losses)))
    shown = table(learn, [indices[i] for i in top.indices.tolist()]).get("Prediction_Samples")
    if shown is None:
        return {}
    shown.add_column("Loss", top.values.tolist())
    return {"Top_Losses": shown}


def _is_classification(batch: Any, classes: int) -> bool:
    return (
        len(batch.yb) == 1
        and (isinstance(batch.yb[0], TensorCategory) or not batch.yb[0].is_floating_point())
        and isinstance(batch.raw, torch.Tensor)
        and batch.raw.ndim == 2
        and batch.raw.shape[1] == classes
        and batch.yb[0].numel() == len(batch.raw)
    )


def _vocab(learn: Any) -> list[str] | None:
    """Return the names of the classes, or None if there is not one list of them."""
    vocab: Any = getattr(learn.dls, "vocab", None)
    if type(vocab).__name__ == "L" and len(vocab) == 2 and not isinstance(vocab[0], str):
        vocab = vocab[1]  # texts: the words come first
    try:
        names = [str(name) for name in vocab or ()]
    except TypeError:
        return None
    return names if 2 <= len(names) <= _MOST_CLASSES else None
