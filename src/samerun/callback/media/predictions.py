# ruff: noqa: PLR2004 - numbers of dimensions
"""What a model's activations say, as the loss function or the type of the target has it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from fastai.losses import BaseLoss
from fastai.torch_core import TensorCategory, TensorMask, TensorMultiCategory, retain_type
from fastai.vision.core import TensorBBox

_LOGITS = (
    torch.nn.BCEWithLogitsLoss,
    torch.nn.functional.binary_cross_entropy_with_logits,
    torch.nn.CrossEntropyLoss,
    torch.nn.functional.cross_entropy,
)
_BINARY = (
    torch.nn.BCEWithLogitsLoss,
    torch.nn.BCELoss,
    torch.nn.functional.binary_cross_entropy_with_logits,
    torch.nn.functional.binary_cross_entropy,
)


def decode(loss_func: Any, raw: Any, yb: Sequence[Any], classes: Sequence[Any] = ()) -> Any:
    """
    Return activations and predictions, as fastai's ``get_preds(with_decoded=True)`` does.

    Losses of PyTorch, lambdas and others that have no ``activation`` or no ``decodes`` leave
    it to the targets: classes are the most likely ones, several labels those over one half.

    Args:
        loss_func: The learner's.
        raw: What validation saw as ``learn.pred``.
        yb: The targets, with their types.
        classes: How many classes each target has, as far as it is known.

    Returns:
        Activations, and predictions of the types of *yb*; a tuple of each for several targets.
    """
    activation, decodes = _own(loss_func, "activation"), _own(loss_func, "decodes")
    columns = () if decodes else columns_of(yb, classes)
    kinds = _Kinds(loss_func, columns or tuple(yb), tuple(classes))
    raw = _per_column(raw, columns, classes) if columns else raw
    preds = activation(raw) if activation else kinds.each(raw, kinds.activated)
    found = decodes(preds) if decodes else kinds.each(preds, kinds.chosen)
    if columns:
        return preds, torch.stack([part.flatten().long() for part in found], dim=1)
    return preds, _typed(found, tuple(yb))


def columns_of(yb: Sequence[Any], classes: Sequence[Any]) -> tuple[Any, ...]:
    """Return the targets of a table that has several columns of classes, else nothing."""
    y = yb[0] if len(yb) == 1 else None
    if not isinstance(y, torch.Tensor) or y.ndim != 2 or not 1 < len(classes) == y.shape[1]:
        return ()
    if not all(classes):
        return ()
    return tuple(TensorCategory(column.long()) for column in y.unbind(dim=1))


def _per_column(raw: Any, columns: tuple[Any, ...], classes: Sequence[Any]) -> Any:
    """Return the activations of each target, where the model has put them side by side."""
    if isinstance(raw, torch.Tensor) and raw.ndim == 2 and raw.shape[1] == sum(classes):
        return raw.split(list(classes), dim=1)
    if isinstance(raw, torch.Tensor) and raw.shape[:2] == (len(raw), len(columns)):
        return raw.unbind(dim=1)
    return raw


class _Kinds:
    """What the targets tell of activations: which part is whose, and what it means."""

    def __init__(self, loss: Any, yb: tuple[Any, ...], classes: tuple[Any, ...]) -> None:
        self._loss, self._yb, self._classes = loss, yb, classes

    def each(self, preds: Any, change: Callable[[Any, Any, int | None], Any]) -> Any:
        """Return *preds* with *change* done to the part of each target."""
        if isinstance(preds, Mapping) or (isinstance(preds, list | tuple) and len(self._yb) == 1):
            preds = self._parts(preds)
        if isinstance(preds, list | tuple):
            pairs = enumerate(zip(preds, self._yb, strict=False))
            return tuple(change(part, y, self._count(n)) for n, (part, y) in pairs)
        return change(preds, self._yb[0], self._count(0)) if self._yb else preds

    def _parts(self, preds: Any) -> Any:
        """Return the part that fits the only target: models return more than their loss takes."""
        parts = list(preds.values()) if isinstance(preds, Mapping) else list(preds)
        if len(self._yb) != 1:
            return tuple(parts)
        found = (part for part in parts if _fits(part, self._yb[0], self._count(0)))
        return next(found, parts[0] if parts else preds)

    def _count(self, n: int) -> int | None:
        return self._classes[n] if n < len(self._classes) else None

    def activated(self, part: Any, y: Any, count: int | None) -> Any:
        """Return *part* as probabilities, where it is about classes."""
        if not _is_activation(part, y):
            return part
        axis = _class_axis(part, y)
        if axis is not None:
            return part if self._sums_to_one(part, axis) else part.softmax(dim=axis)
        return part if not self._binary(part, y, count) or self._ready(part) else part.sigmoid()

    def chosen(self, part: Any, y: Any, count: int | None) -> Any:
        """Return the classes that the probabilities *part* are for."""
        if not _is_activation(part, y):
            return part
        axis = _class_axis(part, y)
        if axis is not None:
            return part.argmax(dim=axis)
        labels = not y.is_floating_point() or isinstance(y, TensorMultiCategory | TensorMask)
        return part > 0.5 if labels and self._binary(part, y, count) else part

    def _binary(self, part: torch.Tensor, y: Any, count: int | None) -> bool:
        """Say whether each number of *part* is a yes or no."""
        if isinstance(y, TensorMultiCategory | TensorMask):
            return True
        if isinstance(y, TensorCategory):
            return count in (2, None)
        return _is_one_of(self._loss, _BINARY) or (count == 2 and not y.is_floating_point())

    def _ready(self, part: torch.Tensor) -> bool:
        """Say whether *part* holds probabilities."""
        return not _is_one_of(self._loss, _LOGITS) and bool(((part >= 0) & (part <= 1)).all())

    def _sums_to_one(self, part: torch.Tensor, axis: int) -> bool:
        if _is_one_of(self._loss, _LOGITS) or not bool((part >= 0).all()):
            return False
        return bool((part.sum(dim=axis) - 1).abs().max() < 1e-3) if part.numel() else False


def _own(loss_func: Any, name: str) -> Callable[[Any], Any] | None:
    """Return the method of a loss function, if it is not the one of fastai that does nothing."""
    found = getattr(loss_func, name, None)
    nothing = getattr(BaseLoss, name)
    return None if not callable(found) or getattr(found, "__func__", found) is nothing else found


def _is_one_of(loss: Any, kinds: tuple[Any, ...]) -> bool:
    inner = getattr(loss, "func", loss)  # of BaseLoss and of functools.partial
    return inner in kinds or any(
        isinstance(kind, type) and isinstance(inner, kind) for kind in kinds
    )


def _is_activation(part: Any, y: Any) -> bool:
    tensors = isinstance(part, torch.Tensor) and isinstance(y, torch.Tensor)
    return tensors and part.is_floating_point() and not isinstance(y, TensorBBox)


def _class_axis(part: torch.Tensor, y: torch.Tensor) -> int | None:
    """Return the axis of *part* that has one number per class of *y*, or None."""
    if y.is_floating_point() or part.ndim < 2:
        return None
    if isinstance(y, TensorMultiCategory) and part.ndim == y.ndim + 1:
        return -1  # labels of boxes
    y_shape = y.shape[:1] if y.ndim == 2 and y.shape[1] == 1 and part.ndim == 2 else y.shape
    if part.shape[1] > 1 and (*part.shape[:1], *part.shape[2:]) == tuple(y_shape):
        return 1
    if part.shape[-1] > 1 and part.shape[:-1] == y_shape:
        return -1
    squeezed = (part.shape[0], 1, *part.shape[2:]) == tuple(y_shape)  # masks of one channel
    return 1 if part.ndim > 2 and part.shape[1] > 1 and squeezed else None


def _fits(part: Any, y: Any, count: int | None) -> bool:
    """Say whether *part* may be about the target *y*."""
    if not isinstance(part, torch.Tensor) or not isinstance(y, torch.Tensor):
        return False
    axis = _class_axis(part, y) if part.is_floating_point() else None
    if axis is not None:
        return count is None or part.shape[axis] == count
    return part.numel() == y.numel() and part.shape[:1] == y.shape[:1]


def _typed(decoded: Any, yb: tuple[Any, ...]) -> Any:
    """Give predictions the types of the targets; the dispatch of decoding goes by them."""
    if isinstance(decoded, tuple | list):
        pairs = zip(decoded, yb, strict=False)
        return tuple(_typed(_chosen(part, y), (y,)) for part, y in pairs)
    if len(yb) > 1 and isinstance(yb[0], TensorBBox):
        # The model predicts boxes alone; to be decoded they need labels, which are not shown.
        boxes = decoded.reshape(len(decoded), -1, 4)
        return retain_type(boxes, yb[0]), *[y[:, : boxes.shape[1]] for y in yb[1:]]
    with contextlib.suppress(Exception):
        return retain_type(_shaped(decoded, yb[0]), yb[0])
    return decoded


def _shaped(decoded: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return *decoded* as indices of classes, of the shape of *y*, where *y* is of such."""
    if isinstance(y, TensorMultiCategory) or y.is_floating_point() or decoded.is_floating_point():
        return decoded
    if decoded.ndim == y.ndim + 1 and decoded.shape[1] == 1:
        decoded = decoded.squeeze(1)
    same = decoded.numel() == y.numel()
    return decoded.long().reshape(y.shape) if same else decoded.long()


def _chosen(part: Any, y: Any) -> Any:
    """Return the most likely class where *part* has one activation for each."""
    one_each = isinstance(y, TensorMultiCategory) and getattr(part, "ndim", 0) == y.ndim + 1
    return part.argmax(dim=-1) if one_each and part.is_floating_point() else part
