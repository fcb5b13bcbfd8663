# mypy: disable-error-code="no-redef, no-untyped-def"
# ruff: noqa: F811, ANN001, ANN201, TC002, PLR2004 - one function for many types, which the dispatcher reads
"""
Build the table of prediction samples, by the type of inputs and targets.

``wandb_process`` is dispatched by fastai's dispatcher, so that a type of your own is one
function away::

    @dispatch
    def wandb_process(x: MyInput, y: MyTarget, samples, outs, preds):
        return {"Prediction_Samples": wandb.Table(...)}
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import wandb
from fastai.imports import dispatch
from fastai.tabular.core import Tabular
from fastai.text.data import LMTensorText, TensorText
from fastai.torch_core import TensorCategory, TensorImage, TensorMask, TensorMultiCategory
from fastai.vision.core import LabeledBBox, TensorBBox, TensorPoint
from fastcore.foundation import L

from samerun.callback.media import images

KEY = "Prediction_Samples"
_IMAGE, _TRUTH, _PREDICTION = "Input image", "Ground_Truth", "Predictions"
_CHARACTERS = 2000  # of a text, in a cell of the table
_NUMBERS = 32  # of a tensor that is shown as its numbers


class NoTable(TypeError):
    """No way is known to show samples of these types."""

    def __init__(self, x: Any, y: Any) -> None:
        types = f"x: {type(x).__name__}, y: {type(y).__name__}"
        super().__init__(
            f"no table is known for {types}; "
            f"register one: @dispatch def wandb_process({types}, samples, outs, preds)"
        )


@dispatch
def wandb_process(x, y, samples, outs, preds):
    """
    Return what to log for some predictions, by name.

    Args:
        x: Inputs of one batch; their type chooses the function.
        y: Targets of one batch; the same.
        samples: Decoded inputs and targets, one tuple per item.
        outs: Decoded predictions, one tuple per item.
        preds: Activations of the model, shape (items, ...), or a list if their shapes differ.

    Raises:
        NoTable: No function is registered for the types of *x* and *y*.
    """
    raise NoTable(x, y)


@dispatch
def wandb_process(x: TensorImage, y, samples, outs, preds):
    """Show images and numbers: regression."""
    return _image_table(samples, outs, plain)


@dispatch
def wandb_process(x: TensorImage, y: TensorCategory, samples, outs, preds):
    """Show images and labels."""
    table = _image_table(samples, outs, plain)
    if isinstance(preds, torch.Tensor) and preds.ndim == 2:
        table[KEY].add_column("Confidence", _confidence(preds.float()))
    return table


@dispatch
def wandb_process(x: TensorImage, y: TensorMultiCategory, samples, outs, preds):
    """Show images and all labels of each."""
    return _image_table(samples, outs, labels)


@dispatch
def wandb_process(x: TensorImage, y: TensorImage, samples, outs, preds):
    """Show images made from images."""
    return _image_table(samples, outs, images.to_image)


@dispatch
def wandb_process(x: TensorImage, y: TensorMask, samples, outs, preds):
    """Show masks over images, with the classes' names."""
    rows = []
    for (image, truth, *_), (predicted, *_) in zip(samples, outs, strict=True):
        classes = _codes(truth, predicted, preds)
        true, found = (
            None if mask is None else images.to_mask_image(image, mask, layer, classes)
            for mask, layer in ((truth, "Ground_Truth"), (predicted, "Prediction"))
        )
        rows.append([images.to_image(image), true, found])
    return {KEY: table([_IMAGE, _TRUTH, _PREDICTION], rows)}


@dispatch
def wandb_process(x: TensorImage, y: TensorPoint, samples, outs, preds):
    """Show key points on images."""
    rows = []
    for (image, truth, *_), (predicted, *_) in zip(samples, outs, strict=True):
        true, found = (
            None if points is None else images.to_points_image(image, points, color)
            for points, color in (
                (truth, images.TRUE_COLOR),
                (predicted, images.PREDICTED_COLOR),
            )
        )
        rows.append([images.to_image(image), true, found])
    return {KEY: table([_IMAGE, _TRUTH, _PREDICTION], rows)}


@dispatch
def wandb_process(x: TensorImage, y: tuple, samples, outs, preds):
    """Show bounding boxes over images, or each of several targets in its own column."""
    if not (y and isinstance(y[0], TensorBBox)):
        return _columns((x,), y, samples, outs)
    truths = [_boxes(truth) for _, *truth in samples]
    # Predictions of boxes alone are decoded with labels that are not theirs.
    found = [_boxes(out, named=isinstance(preds, tuple)) for out in outs]
    names = sorted({str(label) for pair in truths + found if pair for label in pair[1]})
    rows = []
    for (image, *_), truth, predicted in zip(samples, truths, found, strict=True):
        shown = images.to_boxes_image(image, *predicted, "Prediction", names) if predicted else None
        true = images.to_boxes_image(image, *(truth or ((), ())), "Ground_Truth", names)
        rows.append([images.to_image(image), true, shown])
    return {KEY: table([_IMAGE, _TRUTH, _PREDICTION], rows)}


@dispatch
def wandb_process(x: tuple, y, samples, outs, preds):
    """Show several inputs, each in its own column."""
    return _columns(x, y if isinstance(y, tuple) else (y,), samples, outs)


@dispatch
def wandb_process(x: dict, y, samples, outs, preds):
    """Show inputs that have names, as models take them by keywords, each in its own column."""
    targets = y if isinstance(y, tuple) else (y,)
    names = [str(key) for key in x]
    for name in (_TRUTH, _PREDICTION):
        names += [name if n == 0 else f"{name}_{n + 1}" for n in range(len(targets))]
    rows = [
        [
            *(_named(part, x, y) for part in sample[0].values()),
            *(_cell(part, x, y) for part in (*sample[1:], *tuple(out)[: len(targets)])),
        ]
        for sample, out in zip(samples, outs, strict=True)
    ]
    return {KEY: table(names, rows)}


@dispatch
def wandb_process(x: TensorText, y, samples, outs, preds):
    """Show texts and their labels, or numbers."""
    shown = labels if isinstance(y, TensorMultiCategory) else plain
    rows = [[_text(s[0]), shown(s[1]), shown(o[0])] for s, o in zip(samples, outs, strict=True)]
    return {KEY: table(["Text", "Target", "Prediction"], rows)}


@dispatch
def wandb_process(x: TensorText, y: tuple, samples, outs, preds):
    """Show texts and several targets, each in its own column."""
    return _columns((x,), y, samples, outs)


@dispatch
def wandb_process(x: LMTensorText, y, samples, outs, preds):
    """Show texts, and what the model would have written as each next word."""
    rows = [[_text(s[0]), _text(s[1]), _text(o[0])] for s, o in zip(samples, outs, strict=True)]
    return {KEY: table(["Text", "Target", "Prediction"], rows)}


@dispatch
def wandb_process(x: Tabular, y: Tabular, samples, outs, preds):
    """Show the rows of a data frame, decoded, with the predictions beside the targets."""
    frame, predicted = _decoded(x), _decoded(y)
    for name in x.y_names:
        frame[f"{name}_pred"] = predicted[name].to_numpy()
    # W&B takes no columns whose names are np.str_, as scikit-learn makes them, nor categories.
    columns = [str(column) for column in frame.columns]
    rows = [[plain(value) for value in row] for row in frame.astype(object).to_numpy()]
    return {KEY: table(columns, rows)}


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Any:
    """Return a W&B table; a column of numbers and words is one of words, for W&B refuses both."""
    kept = [_of_one_kind(column) for column in zip(*rows, strict=True)]
    data = [list(row) for row in zip(*kept, strict=True)]
    return wandb.Table(columns=[*columns], data=data)


def _of_one_kind(column: Sequence[Any]) -> Sequence[Any]:
    kinds = {
        "number" if isinstance(v, int | float) and not isinstance(v, bool) else type(v).__name__
        for v in column
        if v is not None
    }
    if len(kinds) < 2 or not kinds <= {"number", "str", "bool"}:
        return column
    return [None if value is None else str(value) for value in column]


def labels(value: Any) -> str | None:
    """Return the labels of an item as a text, be they one or several, numbers or words."""
    if value is None:
        return None
    listed = isinstance(value, Sequence | L) and not isinstance(value, str)
    return ";".join(str(plain(part)) for part in value) if listed else str(plain(value))


def plain(value: Any) -> Any:
    """Return a decoded label as a string, or a decoded number as a number."""
    if isinstance(value, str | int | float | bool) or value is None:
        return str(value) if isinstance(value, str) else value
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().as_subclass(torch.Tensor)
        numbers = value.flatten().tolist()
        return numbers[0] if len(numbers) == 1 else ", ".join(f"{n:.4g}" for n in numbers)
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        return value.item()
    if isinstance(value, Sequence | L):
        if len(value) == 1:
            return plain(value[0])
        return ";".join(str(plain(part)) for part in value)
    return str(value)


def _image_table(samples: Any, outs: Any, show: Any) -> dict[str, Any]:
    rows = [
        [images.to_image(image), None if truth is None else show(truth), show(predicted)]
        for (image, truth, *_), (predicted, *_) in zip(samples, outs, strict=True)
    ]
    return {KEY: table([_IMAGE, _TRUTH, _PREDICTION], rows)}


def _columns(x: Sequence[Any], y: Sequence[Any], samples: Any, outs: Any) -> dict[str, Any]:
    """Show each input, each target and each prediction in its own column."""
    inputs = [len(sample) - len(y) for sample in samples][:1]
    n_inp = inputs[0] if inputs else len(x)
    names = _numbered("Input", [p for s in samples[:1] for p in _flat(s[:n_inp])])
    for name in (_TRUTH, _PREDICTION):
        names += [name if n == 0 else f"{name}_{n + 1}" for n in range(len(y))]
    rows = []
    for sample, out in zip(samples, outs, strict=True):
        parts = [*_flat(sample[:n_inp]), *sample[n_inp:], *tuple(out)[: len(y)]]
        rows.append([_cell(part, x, y) for part in parts])
    return {KEY: table(names, rows)}


def _numbered(name: str, parts: Sequence[Any]) -> list[str]:
    return [name] if len(parts) == 1 else [f"{name} {n}" for n, _ in enumerate(parts, 1)]


def _flat(parts: Any) -> list[Any]:
    nested = isinstance(parts, tuple | list | L)
    return [inner for part in parts for inner in _flat(part)] if nested else [parts]


def _cell(part: Any, x: Any, y: Any) -> Any:
    """Return how W&B shows a decoded *part* of an item."""
    if isinstance(part, TensorMask):
        return images.to_image(part.unsqueeze(0) if part.ndim == 2 else part)
    if isinstance(part, TensorImage) or (isinstance(part, torch.Tensor) and part.ndim == 3):
        return images.to_image(part)
    if isinstance(part, torch.Tensor) and part.numel() > _NUMBERS:
        raise NoTable(x, y)
    if isinstance(part, L) or type(part).__name__ == "MultiCategory":
        return labels(part)
    return _text(part) if isinstance(part, str) and len(part) > _NUMBERS else plain(part)


def _named(part: Any, x: Any, y: Any) -> Any:
    """Return how W&B shows an input that may be a long row of numbers."""
    if isinstance(part, torch.Tensor) and part.ndim == 1 and part.numel() > _NUMBERS:
        return f"{plain(part[:_NUMBERS])}, ... ({part.numel()} numbers)"
    return _cell(part, x, y)


def _confidence(preds: torch.Tensor) -> list[float]:
    """Return how sure the model is of its choice, also where it gives one number for two."""
    sure = torch.maximum(preds, 1 - preds)[:, 0] if preds.shape[1] == 1 else preds.amax(dim=1)
    return [float(value) for value in sure.tolist()]


def _decoded(table: Tabular) -> Any:
    """Return the data frame of *table*, its categories by their names."""
    return table.new(table.all_cols.copy()).decode().items.copy()


def _text(text: Any) -> str:
    shown = str(text)
    return shown if len(shown) <= _CHARACTERS else shown[:_CHARACTERS] + " ..."


def _codes(truth: Any, predicted: Any, preds: Any) -> Sequence[Any]:
    for mask in (predicted, truth):
        codes = getattr(mask, "codes", None)
        if codes is not None:
            return list(codes)
    shapes = [
        p.shape[-3] for p in (preds if isinstance(preds, list) else [preds]) if _has_classes(p)
    ]
    return range(max(shapes, default=2))


def _has_classes(preds: Any) -> bool:
    return isinstance(preds, torch.Tensor) and preds.ndim >= 3


def _boxes(parts: Sequence[Any], *, named: bool = True) -> tuple[Any, Sequence[Any]] | None:
    """Return boxes of shape (n, 4) and n labels, or None if *parts* has no boxes."""
    # Decoding makes (boxes, LabeledBBox of boxes and labels) of the two targets.
    parts = next((tuple(part) for part in parts if isinstance(part, LabeledBBox)), parts)
    if not parts or not hasattr(parts[0], "shape"):
        return None
    if len(parts) > 1 and named:
        return parts[0], list(parts[1])
    return parts[0], ["object"] * (parts[0].numel() // 4)
