"""Predict a few items of the validation set, without a trace in the learner."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from fastai.torch_core import (
    TensorMultiCategory,
    default_device,
    find_bs,
    retain_type,
    to_device,
)
from fastai.vision.core import TensorBBox

from samerun.callback.distributed import bare


@dataclasses.dataclass
class Predicted:
    """One batch, on the CPU: inputs, targets and the activations of the model."""

    xb: tuple[Any, ...]
    yb: tuple[Any, ...]
    raw: Any
    preds: Any
    decoded: Any


@dataclasses.dataclass
class Evaluated:
    """One batch, on the CPU: what charts need of it."""

    yb: tuple[Any, ...]
    raw: torch.Tensor | None  # of shape (items, classes); None if the model gives something else
    losses: torch.Tensor | None  # of shape (items,); None if the loss is not one of each item


@dataclasses.dataclass(frozen=True)
class _Indices:
    """Always return the same indices; a class, for lambdas cannot be pickled."""

    indices: Sequence[int]

    def __call__(self) -> list[int]:
        return list(self.indices)


def subset(dl: Any, indices: Sequence[int]) -> Any:
    """Return a data loader like *dl* that yields the items *indices*, in their order."""
    options: dict[str, Any] = {"shuffle": False, "drop_last": False, "num_workers": 0}
    if type(dl).__name__.startswith("Tab"):
        # A table is decoded as a whole, not row by row.
        options["bs"] = max(1, len(indices))
    return dl.new(get_idxs=_Indices(indices), n=len(indices), **options)


def predict(learn: Any, dl: Any, most: int) -> Iterator[Predicted]:
    """
    Yield predictions for up to *most* items of *dl*, on the CPU, batch by batch.

    No callback hears of it, and nothing is gathered from other processes: ``learn.get_preds``
    would reset the recorder's metrics, and hang in a process that calls it alone.
    """
    model = bare(learn.model)
    with evaluating(model), torch.no_grad():
        for batch in dl:
            yield _predicted(learn, model, batch, dl.n_inp, most)
            most -= find_bs(batch)
            if most <= 0:
                return


def evaluate(learn: Any, dl: Any, most: int) -> Iterator[Evaluated]:
    """
    Yield for up to *most* items of *dl* what charts need of them, batch by batch.

    Large activations, such as those of a segmentation, stay where they are.
    """
    model = bare(learn.model)
    with evaluating(model), torch.no_grad():
        for batch in dl:
            raw = _activations(learn, model, batch[: dl.n_inp])
            yb = tuple(batch[dl.n_inp :])
            flat = isinstance(raw, torch.Tensor) and raw.ndim == 2  # noqa: PLR2004
            losses = _item_losses(learn, raw, yb, find_bs(batch))
            small = _cpu(yb, most) if flat else ()
            yield Evaluated(small, _cpu(raw, most).float() if flat else None, _cpu(losses, most))
            most -= find_bs(batch)
            if most <= 0:
                return


def _activations(learn: Any, model: Any, inputs: Any) -> Any:
    first = next(model.parameters(), None)
    device = first.device if first is not None else default_device()
    raw = model(*[_plain(x, first) for x in to_device(tuple(inputs), device)])
    if isinstance(raw, tuple | list) and hasattr(learn, "rnn"):
        raw = raw[0]  # RNNCallback: the other elements are hidden states.
    return raw


def _item_losses(learn: Any, raw: Any, yb: tuple[Any, ...], items: int) -> torch.Tensor | None:
    """Return the loss of each item, shape (items,), if the loss function can tell it."""
    try:
        with learn.loss_not_reduced():
            losses = learn.loss_func(raw, *to_device(yb, _device_of(raw)))
        return losses.as_subclass(torch.Tensor).float().reshape(items, -1).mean(dim=1)
    except Exception:
        return None


def _device_of(raw: Any) -> Any:
    """Return the device of some activations."""
    part = raw[0] if isinstance(raw, tuple | list) else raw
    return part.device


def _predicted(learn: Any, model: Any, batch: Any, n_inp: int, most: int) -> Predicted:
    raw = _cpu(_activations(learn, model, batch[:n_inp]), most)
    preds = getattr(learn.loss_func, "activation", lambda o: o)(raw)
    decoded = getattr(learn.loss_func, "decodes", lambda o: o)(preds)
    yb = _cpu(tuple(batch[n_inp:]), most)
    return Predicted(_cpu(tuple(batch[:n_inp]), most), yb, raw, preds, _typed(decoded, yb))


@contextlib.contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Put *model* into evaluation mode; each module gets its own mode back."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def _plain(x: Any, like: torch.Tensor | None) -> Any:
    """Cast as fastai's CastToTensor does, and as ModelToHalf, where the model is in half."""
    if not isinstance(x, torch.Tensor):
        return x
    x = x.as_subclass(torch.Tensor)
    if like is None or like.dtype not in (torch.float16, torch.bfloat16):
        return x
    return x.to(like.dtype) if x.is_floating_point() else x


def _cpu(value: Any, most: int) -> Any:
    """Copy the first *most* items of all tensors to the CPU, as float32 where they are half."""
    if isinstance(value, tuple | list):
        return tuple(_cpu(part, most) for part in value)
    if not isinstance(value, torch.Tensor):
        return value
    kept = value.detach()[:most].cpu() if value.ndim else value.detach().cpu()
    return kept.float() if kept.dtype in (torch.float16, torch.bfloat16) else kept


def _typed(decoded: Any, yb: tuple[Any, ...]) -> Any:
    """Give predictions the types of the targets; the dispatch of decoding goes by them."""
    if isinstance(decoded, tuple):
        pairs = zip(decoded, yb, strict=False)
        return tuple(_typed(_chosen(part, y), (y,)) for part, y in pairs)
    if len(yb) > 1 and isinstance(yb[0], TensorBBox):
        # The model predicts boxes alone; to be decoded they need labels, which are not shown.
        boxes = decoded.reshape(len(decoded), -1, 4)
        return retain_type(boxes, yb[0]), *[y[:, : boxes.shape[1]] for y in yb[1:]]
    with contextlib.suppress(Exception):
        return retain_type(decoded, yb[0])
    return decoded


def _chosen(part: Any, y: Any) -> Any:
    """Return the most likely class where *part* has one activation for each."""
    one_each = isinstance(y, TensorMultiCategory) and getattr(part, "ndim", 0) == y.ndim + 1
    return part.argmax(dim=-1) if one_each and part.is_floating_point() else part


def joined(parts: Sequence[Any]) -> Any:
    """Join activations of batches: as a tensor, a tuple of these, or a list of items."""
    if parts and all(isinstance(part, tuple) for part in parts):
        return tuple(joined(column) for column in zip(*parts, strict=True))
    tensors = all(isinstance(part, torch.Tensor) for part in parts)
    if tensors and len({part.shape[1:] for part in parts}) == 1:
        return torch.cat(list(parts))
    return [item for part in parts for item in part]
