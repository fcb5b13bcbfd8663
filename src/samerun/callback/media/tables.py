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

from samerun.callback.media import images

KEY = "Prediction_Samples"
_IMAGE, _TRUTH, _PREDICTION = "Input image", "Ground_Truth", "Predictions"
_CHARACTERS = 2000  # of a text, in a cell of the table


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
    return _image_table(samples, outs, plain, plain)


@dispatch
def wandb_process(x: TensorImage, y: TensorCategory | TensorMultiCategory, samples, outs, preds):
    """Show images and labels."""
    table = _image_table(samples, outs, plain, plain)
    if type(y).__name__ == "TensorCategory" and isinstance(preds, torch.Tensor) and preds.ndim == 2:
        table[KEY].add_column("Confidence", preds.float().max(dim=1).values.tolist())
    return table


@dispatch
def wandb_process(x: TensorImage, y: TensorImage, samples, outs, preds):
    """Show images made from images."""
    return _image_table(samples, outs, images.to_image, images.to_image)


@dispatch
def wandb_process(x: TensorImage, y: TensorMask, samples, outs, preds):
    """Show masks over images, with the classes' names."""
    table = wandb.Table(columns=[_IMAGE, _TRUTH, _PREDICTION])
    for (image, truth, *_), (predicted, *_) in zip(samples, outs, strict=True):
        classes = _codes(truth, predicted, preds)
        table.add_data(
            images.to_image(image),
            images.to_mask_image(image, truth, "Ground_Truth", classes),
            images.to_mask_image(image, predicted, "Prediction", classes),
        )
    return {KEY: table}


@dispatch
def wandb_process(x: TensorImage, y: TensorPoint, samples, outs, preds):
    """Show key points on images."""
    table = wandb.Table(columns=[_IMAGE, _TRUTH, _PREDICTION])
    for (image, truth, *_), (predicted, *_) in zip(samples, outs, strict=True):
        table.add_data(
            images.to_image(image),
            images.to_points_image(image, truth, images.TRUE_COLOR),
            images.to_points_image(image, predicted, images.PREDICTED_COLOR),
        )
    return {KEY: table}


@dispatch
def wandb_process(x: TensorImage, y: tuple, samples, outs, preds):
    """Show bounding boxes over images, the predicted ones where the model gives boxes."""
    if not (y and isinstance(y[0], TensorBBox)):
        raise NoTable(x, y)
    truths = [_boxes(truth) for _, *truth in samples]
    # Predictions of boxes alone are decoded with labels that are not theirs.
    found = [_boxes(out, named=isinstance(preds, tuple)) for out in outs]
    names = sorted({str(label) for pair in truths + found if pair for label in pair[1]})
    table = wandb.Table(columns=[_IMAGE, _TRUTH, _PREDICTION])
    for (image, *_), truth, predicted in zip(samples, truths, found, strict=True):
        shown = images.to_boxes_image(image, *predicted, "Prediction", names) if predicted else None
        true = images.to_boxes_image(image, *(truth or ((), ())), "Ground_Truth", names)
        table.add_data(images.to_image(image), true, shown)
    return {KEY: table}


@dispatch
def wandb_process(x: TensorText, y, samples, outs, preds):
    """Show texts and their labels, or numbers."""
    rows = [[_text(s[0]), plain(s[1]), plain(o[0])] for s, o in zip(samples, outs, strict=True)]
    return {KEY: wandb.Table(data=rows, columns=["Text", "Target", "Prediction"])}


@dispatch
def wandb_process(x: LMTensorText, y, samples, outs, preds):
    """Show texts, and what the model would have written as each next word."""
    rows = [[_text(s[0]), _text(s[1]), _text(o[0])] for s, o in zip(samples, outs, strict=True)]
    return {KEY: wandb.Table(data=rows, columns=["Text", "Target", "Prediction"])}


@dispatch
def wandb_process(x: Tabular, y: Tabular, samples, outs, preds):
    """Show the rows of a data frame, decoded, with the predictions beside the targets."""
    frame, predicted = _decoded(x), _decoded(y)
    for name in x.y_names:
        frame[f"{name}_pred"] = predicted[name].to_numpy()
    # W&B takes no columns whose names are np.str_, as scikit-learn makes them, nor categories.
    columns: list[str | int] = [str(column) for column in frame.columns]
    rows = [[plain(value) for value in row] for row in frame.astype(object).to_numpy()]
    return {KEY: wandb.Table(data=rows, columns=columns)}


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
    if isinstance(value, Sequence) or type(value).__name__ == "L":
        if len(value) == 1:
            return plain(value[0])
        return ";".join(str(plain(part)) for part in value)
    return str(value)


def _image_table(samples: Any, outs: Any, show_truth: Any, show_prediction: Any) -> dict[str, Any]:
    table = wandb.Table(columns=[_IMAGE, _TRUTH, _PREDICTION])
    for (image, truth, *_), (predicted, *_) in zip(samples, outs, strict=True):
        table.add_data(images.to_image(image), show_truth(truth), show_prediction(predicted))
    return {KEY: table}


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
    return range(preds.shape[1] if isinstance(preds, torch.Tensor) else preds[0].shape[0])


def _boxes(parts: Sequence[Any], *, named: bool = True) -> tuple[Any, Sequence[Any]] | None:
    """Return boxes of shape (n, 4) and n labels, or None if *parts* has no boxes."""
    # Decoding makes (boxes, LabeledBBox of boxes and labels) of the two targets.
    parts = next((tuple(part) for part in parts if isinstance(part, LabeledBBox)), parts)
    if not parts or not hasattr(parts[0], "shape"):
        return None
    if len(parts) > 1 and named:
        return parts[0], list(parts[1])
    return parts[0], ["object"] * (parts[0].numel() // 4)
