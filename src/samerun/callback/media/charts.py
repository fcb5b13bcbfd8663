# ruff: noqa: PLR2004 - numbers of dimensions
"""Charts for the end of training, of what the model makes of the validation set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
import wandb
from fastai.torch_core import TensorCategory, TensorMultiCategory

from samerun.callback.media.predictions import Evaluated

Chart = Callable[[], Any]

TOP = 9  # as many as fastai's plot_top_losses shows
# A chart of each of a thousand classes is no chart.
_MOST_CLASSES = 50


def charts(vocab: Any, batches: Iterable[Evaluated]) -> tuple[dict[str, Chart], torch.Tensor]:
    """
    Return what draws the charts, by their keys, and the loss of each item.

    One class per item gives a confusion matrix, ROC and precision-recall curves; several
    labels per item give the two curves; anything else gives no chart.

    Args:
        vocab: The data loaders' ``vocab``.
        batches: The model's view of some items.

    Returns:
        Charts by key, and losses, shape (items,); empty if the loss function gives none.
    """
    raw, truth, losses = [], [], []
    names = class_names(vocab)
    for batch in batches:
        losses.append(batch.losses)
        if names and _labels(batch, len(names)):
            raw.append(batch.raw)
            truth.append(batch.yb[0].as_subclass(torch.Tensor))
    known = all(loss is not None for loss in losses)
    found = torch.cat(losses) if losses and known else torch.zeros(0)
    if names is None or not raw:
        return {}, found
    return _charts(torch.cat(raw), torch.cat(truth), names), found


def _charts(raw: torch.Tensor, truth: torch.Tensor, names: Sequence[str]) -> dict[str, Chart]:
    if truth.ndim == 2 and truth.shape[1] == len(names):
        probs, hits = raw.sigmoid().numpy(), truth.bool().numpy()
        return _curves(probs, hits, names)
    labels = truth.long().flatten()
    hits = torch.nn.functional.one_hot(labels, len(names)).bool().numpy()
    matrix = {
        "confusion_matrix": lambda: wandb.plot.confusion_matrix(
            y_true=labels.tolist(), preds=raw.argmax(dim=1).tolist(), class_names=list(names)
        )
    }
    return matrix | _curves(raw.softmax(dim=1).numpy(), hits, names)


def _curves(probs: np.ndarray, hits: np.ndarray, names: Sequence[str]) -> dict[str, Chart]:
    return {
        "roc_curve": lambda: _curve(_roc, probs, hits, names),
        "pr_curve": lambda: _curve(_precision_recall, probs, hits, names),
    }


def _curve(kind: Any, probs: np.ndarray, hits: np.ndarray, names: Sequence[str]) -> Any:
    """
    Draw one curve per class.

    ``wandb.plot.roc_curve`` takes the wrong column of *probs* as soon as a class has no item,
    so the points are taken from scikit-learn and drawn with the same Vega chart.
    """
    # A class that all items have, or none has, has no curve.
    drawn = [i for i in range(len(names)) if 0 < hits[:, i].sum() < len(hits)]
    if not drawn:
        msg = f"all {len(hits)} items are of one class, and a curve needs two"
        raise ValueError(msg)
    title, axes, points = kind()
    rows = [
        [names[i], round(float(x), 3), round(float(y), 3)]
        for i in drawn
        for x, y in _thinned(points(hits[:, i], probs[:, i]), wandb.Table.MAX_ROWS // len(drawn))
    ]
    columns = ("class", *(axis.lower().replace(" ", "_") for axis in axes))
    return wandb.plot_table(
        data_table=wandb.Table(columns=list(columns), data=rows),
        vega_spec_name="wandb/area-under-curve/v0",
        fields={"x": columns[1], "y": columns[2], "class": "class"},
        string_fields={"title": title, "x-axis-title": axes[0], "y-axis-title": axes[1]},
    )


def _roc() -> tuple[str, tuple[str, str], Any]:
    from sklearn.metrics import roc_curve

    def points(hits: np.ndarray, probs: np.ndarray) -> list[tuple[float, float]]:
        false_positives, true_positives, _ = roc_curve(hits, probs)
        return list(zip(false_positives, true_positives, strict=True))

    return "ROC curve", ("False positive rate", "True positive rate"), points


def _precision_recall() -> tuple[str, tuple[str, str], Any]:
    from sklearn.metrics import precision_recall_curve

    def points(hits: np.ndarray, probs: np.ndarray) -> list[tuple[float, float]]:
        precision, recall, _ = precision_recall_curve(hits, probs)
        return list(zip(recall[::-1], precision[::-1], strict=True))

    return "Precision-recall curve", ("Recall", "Precision"), points


def _thinned(points: list[Any], most: int) -> list[Any]:
    """Return at most *most* of *points*, the first and the last among them."""
    if len(points) <= most:
        return points
    return [points[i] for i in np.linspace(0, len(points) - 1, most).astype(int)]


def _labels(batch: Evaluated, classes: int) -> bool:
    """Say whether *batch* has one activation per class, and one class or several labels."""
    if len(batch.yb) != 1 or batch.raw is None or batch.raw.shape[1] != classes:
        return False
    y = batch.yb[0]
    if isinstance(y, TensorMultiCategory):
        return y.shape == batch.raw.shape
    whole = isinstance(y, TensorCategory) or not y.is_floating_point()
    return whole and y.numel() == len(batch.raw)


def class_names(vocab: Any) -> list[str] | None:
    """Return the names of 2 to 50 classes, or None if *vocab* is not one list of them."""
    if type(vocab).__name__ == "L" and len(vocab) == 2 and not isinstance(vocab[0], str):
        vocab = vocab[1]  # texts: the words come first
    try:
        names = [str(name) for name in vocab or ()]
    except TypeError:
        return None
    return names if 2 <= len(names) <= _MOST_CLASSES else None
