"""Histograms of gradients and parameters, without hooks on the model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

import torch
import wandb

from samerun.callback.distributed import bare

_BINS = 64

What = Literal["gradients", "parameters", "all"]


def histograms(model: torch.nn.Module, what: What) -> dict[str, Any]:
    """
    Return histograms under the keys of ``wandb.watch``: ``gradients/0.weight``.

    ``wandb.watch`` hooks into the backward pass, where an exception of W&B would end the
    training; its hooks can't be pickled, and miss layers that are unfrozen later. Here the
    tensors are read once, when all of them are there.

    Args:
        model: The model. Parameters without a gradient, and tensors without one finite
            element, are left out.
        what: Which tensors to show.
    """
    tensors = dict(_tensors(model.named_parameters(), what))
    ranges = _to_lists([torch.stack(torch.aminmax(values)) for values in tensors.values()])
    edges = [_edges(low, high) for low, high in ranges]
    counts = [_counts(*pair) for pair in zip(tensors.values(), edges, strict=True)]
    return {
        key: wandb.Histogram(np_histogram=(count, edge))
        for key, count, edge in zip(tensors, _to_lists(counts), edges, strict=True)
    }


def _tensors(
    parameters: Iterable[tuple[str, torch.nn.Parameter]], what: What
) -> Iterator[tuple[str, torch.Tensor]]:
    for name, parameter in parameters:
        found = {"gradients": parameter.grad, "parameters": parameter}
        for kind, tensor in found.items():
            if what not in (kind, "all") or tensor is None:
                continue
            values = _finite(tensor.detach())
            if values.numel():
                yield f"{kind}/{name}", values


def _finite(tensor: torch.Tensor) -> torch.Tensor:
    """Return the finite elements as float32, of shape (n,)."""
    values = tensor.coalesce().values() if tensor.is_sparse else tensor
    flat = values.as_subclass(torch.Tensor).flatten().float()
    return flat[flat.isfinite()]


def _counts(values: torch.Tensor, edges: list[float]) -> torch.Tensor:
    # Not torch.histc, which raises on a GPU where deterministic algorithms are demanded.
    bins = (values - edges[0]).div_((edges[-1] - edges[0]) / _BINS).long()
    return torch.bincount(bins.clamp_(0, _BINS - 1), minlength=_BINS)


def _to_lists(tensors: Sequence[torch.Tensor]) -> list[list[float]]:
    """Copy tensors of one shape to the host; those of one device together."""
    if len({tensor.device for tensor in tensors}) == 1:
        lists: list[list[float]] = torch.stack(list(tensors)).tolist()
        return lists
    return [tensor.tolist() for tensor in tensors]


def _edges(low: float, high: float) -> list[float]:
    # Equal values are counted from one below to one above them.
    if low == high:
        low, high = low - 1, high + 1
    width = (high - low) / _BINS
    return [low + i * width for i in range(_BINS + 1)]


def gradient_norm(model: Any) -> Any:
    """Return the norm of all gradients of *model*, on its device; None where there are none."""
    grads = [p.grad for p in bare(model).parameters() if p.grad is not None]
    return torch.nn.utils.get_total_norm(grads).detach() if grads else None
