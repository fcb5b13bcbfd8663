"""
DDP's gradient buckets after a resume.

DDP creates new buckets after a wrapper's first backward pass, in the order in which the
gradients became ready. From three ranks on, the layout determines the order of additions, so a
resumed training needs the second layout before its first step.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from fastai.torch_core import to_float

from samerun.train.checkpoint import generators

_ITEMS = 2  # The order does not depend on the number of items; BatchNorm needs two.


def lay_out(learn: Any) -> None:
    """
    Run one small step without an optimizer; the state of the training is restored after it.

    In the precision of the fit, because a batch that only fits in half precision would use up
    the memory of the GPU in float32.
    """
    batch = _few(generators.unwrapped(learn.dls.train).one_batch())
    inputs = getattr(learn.dls, "n_inp", 1)
    learn.model.train()
    with _precision(learn):
        prediction = to_float(learn.model(*batch[:inputs]))
        loss = learn.loss_func(prediction, *batch[inputs:]).mean()
    loss.backward()
    for parameter in learn.model.parameters():
        parameter.grad = None
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()


def _few(batch: Any) -> Any:
    """
    Return the first items, if all tensors of *batch* have as many, as plain tensors.

    `CastToTensor` does the latter before each batch of a fit.
    """
    leaves = list(_leaves(batch))
    alike = all(isinstance(leaf, torch.Tensor) and leaf.dim() for leaf in leaves)
    few = _ITEMS if alike and len({len(leaf) for leaf in leaves}) == 1 else None
    return _cut(batch, few)


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        value = list(value.values())
    if not isinstance(value, list | tuple):
        yield value
        return
    for item in value:
        yield from _leaves(item)


def _cut(value: Any, few: int | None) -> Any:
    if isinstance(value, torch.Tensor):
        plain = value.as_subclass(torch.Tensor)
        return plain[:few] if plain.dim() else plain
    if isinstance(value, dict):
        return {key: _cut(item, few) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_cut(item, few) for item in value]
    return value


def _precision(learn: Any) -> Any:
    mixed = getattr(learn, "mixed_precision", None)
    return getattr(mixed, "autocast", None) or contextlib.nullcontext()
