# ruff: noqa: PLR2004 - numbers of dimensions
"""Charts for the end of training, of what the model makes of the validation set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import wandb
from fastai.torch_core import TensorCategory

Chart = Callable[[], Any]

# A chart of each of a thousand classes is no chart.
_MOST_CLASSES = 50


def charts(classes: Sequence[Any], yb: Sequence[Any], preds: Any, found: Any) -> dict[str, Chart]:
    """
    Return what draws the charts, by their keys.

    One class per item gives a confusion matrix, ROC and precision-recall curves; several
    labels per item give the two curves; anything else gives no chart. The keys of a second
    target end with ``_2``.

    Args:
        classes: The classes of each target, or None where it has none.
        yb: The targets of some items.
        preds: Their activations, a tuple of these for several targets.
        found: The predictions that these were decoded to, the same.
    """
    drawn: dict[str, Chart] = {}
    for n, (names, y) in enumerate(zip(classes, yb, strict=False)):
        if names is None or not 2 <= len(names) <= _MOST_CLASSES:
            continue
        one = _of_target([str(name) for name in names], y, _part(preds, n), _part(found, n))
        drawn |= {key if n == 0 else f"{key}_{n + 1}": chart for key, chart in one.items()}
    return drawn


def _part(preds: Any, n: int) -> Any:
    if isinstance(preds, tuple | list):
        return preds[n] if n < len(preds) else None
    return preds if n == 0 else None


def _of_target(names: list[str], y: Any, preds: Any, found: Any) -> dict[str, Chart]:
    if not isinstance(preds, torch.Tensor) or not isinstance(y, torch.Tensor):
        return {}
    probs, truth = preds.as_subclass(torch.Tensor).float(), y.as_subclass(torch.Tensor)
    if truth.ndim == 2 and truth.shape == probs.shape and truth.shape[1] == len(names):
        return _curves(probs.numpy(), truth.bool().numpy(), names)
    probs = _of_both(probs) if len(names) == 2 and probs.numel() == len(probs) else probs
    whole = isinstance(y, TensorCategory) or not y.is_floating_point()
    if not whole or truth.numel() != len(probs) or probs.shape != (len(probs), len(names)):
        return {}
    return _of_classes(names, truth.long().flatten(), probs, found)


def _of_both(probs: torch.Tensor) -> torch.Tensor:
    """Return the probabilities of both classes, where the model gives that of the second."""
    second = probs.reshape(-1, 1)
    return torch.cat([1 - second, second], dim=1)


def _of_classes(
    names: list[str], truth: torch.Tensor, probs: torch.Tensor, found: Any
) -> dict[str, Chart]:
    kept = (truth >= 0) & (truth < len(names))  # others have no class, as ignore_index says
    labels, probs = truth[kept], probs[kept]
    chosen = probs.argmax(dim=1)
    if isinstance(found, torch.Tensor) and found.numel() == len(kept):
        chosen = found.as_subclass(torch.Tensor).long().flatten()[kept]
    if not len(labels):
        return {}
    hits = torch.nn.functional.one_hot(labels, len(names)).bool().numpy()
    matrix = {
        "confusion_matrix": lambda: wandb.plot.confusion_matrix(
            y_true=labels.tolist(), preds=chosen.tolist(), class_names=names
        )
    }
    return matrix | _curves(probs.numpy(), hits, names)


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
