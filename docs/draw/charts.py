"""Draw charts as W&B's page shows them, from the rows and tables that a run has logged."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import to_rgb
from PIL import Image
from tests.callback.wandblog import LoggedRun

from .tables import PALETTE

COLORS = [tuple(part / 255 for part in color) for color in PALETTE]
mpl.rcParams.update(
    {"font.size": 8, "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 9}
)


def _picture(figure: Any) -> Image.Image:
    figure.tight_layout()
    file = io.BytesIO()
    figure.savefig(file, dpi=110)
    plt.close(figure)
    return Image.open(file).convert("RGB")


def draw_rows(run: LoggedRun, charts: Sequence[tuple[str, str]], columns: int = 4) -> Image.Image:
    """Return line charts, each of a key over an axis such as ``train_step`` or ``epoch``."""
    rows = -(-len(charts) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(2.1 * columns, 1.7 * rows), squeeze=False)
    for ax in axes.flat[len(charts) :]:
        ax.axis("off")
    for n, (key, over) in enumerate(charts):
        points = [(row[over], row[key]) for row in run.rows if key in row and over in row]
        ax = axes.flat[n]
        ax.plot(*zip(*points, strict=True), color=COLORS[n % 6], lw=1.4)
        ax.set_title(key)
        ax.set_xlabel(over)
    return _picture(figure)


def _table(run: LoggedRun, key: str) -> list[list[Any]]:
    return run.table(f"{key}_table")["data"]


def draw_classification(run: LoggedRun) -> Image.Image:
    """Return the confusion matrix and both curves."""
    figure, (matrix, roc, recall) = plt.subplots(1, 3, figsize=(8.4, 2.7))
    _confusion(matrix, _table(run, "confusion_matrix"))
    _curves(roc, _table(run, "roc_curve"), "roc_curve", "False positive rate", "True positive rate")
    _curves(recall, _table(run, "pr_curve"), "pr_curve", "Recall", "Precision")
    return _picture(figure)


def _confusion(ax: Any, rows: list[list[Any]]) -> None:
    names = sorted({row[0] for row in rows})
    counts = np.array([[next(r[2] for r in rows if r[:2] == [a, b]) for b in names] for a in names])
    ax.imshow(counts, cmap="Blues")
    for (i, j), count in np.ndenumerate(counts):
        color = "white" if count > counts.max() / 2 else "black"
        ax.text(j, i, int(count), ha="center", va="center", color=color)
    ax.set_xticks(range(len(names)), names)
    ax.set_yticks(range(len(names)), names)
    ax.set(title="confusion_matrix", xlabel="Predicted", ylabel="Actual")


def _curves(ax: Any, rows: list[list[Any]], title: str, x: str, y: str) -> None:
    for n, name in enumerate(sorted({row[0] for row in rows})):
        points = [row[1:] for row in rows if row[0] == name]
        ax.plot(*zip(*points, strict=True), color=COLORS[n], label=name, lw=1.4)
    ax.set(title=title, xlabel=x, ylabel=y, xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    ax.legend(frameon=False, fontsize=7)


def draw_histograms(run: LoggedRun, keys: Sequence[str]) -> Image.Image:
    """Return histograms over the steps: the darker, the more values."""
    figure, axes = plt.subplots(1, len(keys), figsize=(2.8 * len(keys), 2), squeeze=False)
    for ax, key in zip(axes.flat, keys, strict=True):
        found = [(row["train_step"], row[key]) for row in run.rows if key in row]
        edges = [_edges(value) for _, value in found]
        low, high = min(e[0] for e in edges), max(e[-1] for e in edges)
        centers = np.linspace(low, high, 60)
        for (step, value), edge in zip(found, edges, strict=True):
            inner = (edge[:-1] + edge[1:]) / 2
            density = np.interp(centers, inner, value["values"], left=0, right=0)
            for center, share in zip(centers, density / max(density.max(), 1), strict=True):
                color = (*to_rgb(COLORS[0]), float(share) ** 0.5)
                ax.plot([step], [center], "s", color=color, ms=2.6, mew=0)
        ax.set(title=key, xlabel="train_step")
    return _picture(figure)


def _edges(value: dict[str, Any]) -> np.ndarray:
    if "bins" in value:
        return np.array(value["bins"])
    packed = value["packedBins"]
    return packed["min"] + packed["size"] * np.arange(packed["count"] + 1)


def beside(pictures: Sequence[Image.Image], gap: int = 24) -> Image.Image:
    """Return pictures side by side."""
    width = sum(p.width for p in pictures) + gap * (len(pictures) - 1)
    whole = Image.new("RGB", (width, max(p.height for p in pictures)), "white")
    x = 0
    for picture in pictures:
        whole.paste(picture, (x, 0))
        x += picture.width + gap
    return whole
