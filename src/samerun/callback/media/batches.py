"""The items of a batch, whatever it is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from fastai.torch_core import TensorBase

Rows: TypeAlias = Sequence[int] | torch.Tensor


def items_of(xb: Any, yb: Any = ()) -> int:
    """
    Return how many items a batch has, 0 if nothing tells it.

    A pair of pictures and a dictionary of tensors have as many items as their tensors have
    rows; a list of pictures of several sizes, as detectors take them, has one per element.
    """
    listed = xb[0] if isinstance(xb, tuple | list) and len(xb) else None
    if isinstance(listed, torch.Tensor) and listed.ndim:
        return len(listed)
    if isinstance(listed, list) and listed:
        rows = {len(part) for part in _tensors(listed) if part.ndim}
        of_items = len(rows) != 1 or len(listed) == _sized(yb[0] if len(yb) else None)
        return len(listed) if of_items else rows.pop()
    first = next(_tensors(xb), None)
    if first is not None:
        return len(first) if first.ndim else 1
    return _sized(listed) or _sized(yb[0] if len(yb) else None)


def take(value: Any, rows: Rows, items: int) -> Any:
    """
    Return a copy of the items *rows* of a batch of *items* items, of the same structure.

    Args:
        value: Tensors, or tuples, lists and dictionaries of them.
        rows: Numbers of items, as numbers or as a tensor on the device of *value*; neither
            makes the host wait for the device.
        items: What `items_of` says.
    """
    if isinstance(value, torch.Tensor):
        return _taken(value, rows, items)
    if isinstance(value, Mapping):
        return {key: take(part, rows, items) for key, part in value.items()}
    if isinstance(value, tuple | list):
        if _one_each(value, items):
            return [value[int(row)] for row in rows]
        return like(value, [take(part, rows, items) for part in value])
    return value


def like(value: Any, parts: list[Any]) -> Any:
    """Return *parts* in a container like *value*, or in a tuple."""
    try:
        return type(value)(parts)
    except Exception:
        return tuple(parts)


def mapped(value: Any, change: Callable[[torch.Tensor], Any]) -> Any:
    """Return *value* with *change* done to each tensor."""
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {key: mapped(part, change) for key, part in value.items()}
    if isinstance(value, tuple | list):
        return like(value, [mapped(part, change) for part in value])
    return value


def to_host(value: Any) -> Any:
    """Copy all tensors to the host; a copy from CUDA may still be under way on return."""
    return mapped(value, lambda t: t.to("cpu", non_blocking=t.is_cuda))


def full(value: Any) -> Any:
    """Return half precision as float32."""
    halves = (torch.float16, torch.bfloat16)
    return mapped(value, lambda t: t.float() if t.dtype in halves else t)


def elements(value: Any) -> int:
    """Return how many numbers there are in all tensors of *value*."""
    return sum(part.numel() for part in _tensors(value))


def typed(value: Any, kind: Any) -> Any:
    """Give tensors the types of those of *kind*, where both have the same structure."""
    if isinstance(value, torch.Tensor) and isinstance(kind, TensorBase):
        plain = value.as_subclass(torch.Tensor).as_subclass(type(kind))
        plain.set_meta(kind, as_copy=True)
        return plain
    pairs = isinstance(value, tuple | list) and isinstance(kind, tuple | list)
    if pairs and len(value) == len(kind):
        return like(value, [typed(*pair) for pair in zip(value, kind, strict=True)])
    return value


def versions(value: Any) -> list[int]:
    """Return how often each tensor was changed in its place."""
    try:
        return [part._version for part in _tensors(value)]
    except RuntimeError:  # tensors of torch.inference_mode have no number
        return []


def same(one: Any, other: Any) -> bool:
    """Say whether both are the same tensors, their types apart."""
    pairs = list(_tensors(one)), list(_tensors(other))
    if len(pairs[0]) != len(pairs[1]):
        return False
    return all(
        a.data_ptr() == b.data_ptr() and a.shape == b.shape and a.dtype == b.dtype
        for a, b in zip(*pairs, strict=True)
    )


def shapes(value: Any) -> list[torch.Size]:
    """Return the shape of one item of each tensor."""
    return [part.shape[1:] for part in _tensors(value)]


def joined(parts: Sequence[Any]) -> Any:
    """Join batches: as a tensor, a tuple or dictionary of these, or a list of items."""
    first = parts[0] if parts else None
    if isinstance(first, Mapping):
        return {key: joined([part[key] for part in parts]) for key in first}
    if isinstance(first, tuple) and all(len(part) == len(first) for part in parts):
        return like(first, [joined(column) for column in zip(*parts, strict=True)])
    tensors = all(isinstance(part, torch.Tensor) and part.ndim for part in parts)
    if tensors and len({part.shape[1:] for part in parts}) == 1:
        return torch.cat(list(parts))
    if tensors or all(isinstance(part, list) for part in parts):
        return [item for part in parts for item in part]
    return first


def _taken(value: torch.Tensor, rows: Rows, items: int) -> Any:
    plain = value.detach().as_subclass(torch.Tensor)
    if not plain.ndim or len(plain) != items:
        found = plain.clone()
    elif isinstance(rows, torch.Tensor):
        found = plain.index_select(0, rows)
    elif list(rows) == list(range(items)):
        found = plain.clone()
    else:
        found = torch.stack([plain[row] for row in rows]) if rows else plain[:0].clone()
    return typed(found, value)


def _one_each(value: Any, items: int) -> bool:
    """Say whether *value* is a list with one element per item, such as a dictionary of boxes."""
    if not isinstance(value, list) or len(value) != items:
        return False
    return not all(isinstance(part, torch.Tensor) and _sized(part) == items for part in value)


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _tensors(part)
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _tensors(part)


def _sized(part: Any) -> int:
    sized = hasattr(part, "__len__") and getattr(part, "ndim", None) != 0
    return len(part) if sized else 0
