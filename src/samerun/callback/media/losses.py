"""The loss of each item, and the items of the highest."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
import inspect
from collections.abc import Iterator
from typing import Any

import torch

from samerun.callback.rng import untouched_random_state

TOP = 9  # as many as fastai's plot_top_losses shows
# Batches whose losses may be on their way to the host: by then the device is far beyond them.
_MOST_WAITING = 4


class ItemLosses:
    """Tell the loss of each item of a batch that was just validated, on its device."""

    def __init__(self) -> None:
        self._known: bool | None = None
        self._loss_func: Any = None

    def of(self, learn: Any, items: int) -> torch.Tensor | None:
        """
        Return the loss of each item, shape (items,), or None if nothing tells it.

        The activations are the model's; only their comparison with the targets is made once
        more, where the loss was reduced to one number and its function can leave that out: by
        a copy, for a loss may count or average what it is given. Where that does not come to
        the loss of the validation, the learner or a callback computes another one.
        """
        loss = learn.loss
        if isinstance(loss, torch.Tensor) and loss.numel() == items:
            return _plain(loss).reshape(items)
        if self._known is False or not items:
            return None
        if self._known is None:
            self._loss_func = _copied(learn)
            self._known = self._is_fair(learn, items)
        return _unreduced(self._loss_func, learn, items) if self._known else None

    def _is_fair(self, learn: Any, items: int) -> bool:
        """Say whether the losses can be computed, with the same result each time."""
        with untouched_random_state():
            first = _unreduced(self._loss_func, learn, items)
            if first is None or not _gives(self._loss_func, learn):
                return False
            second = _unreduced(self._loss_func, learn, items)
        return second is not None and _equal(first, second)


def _copied(learn: Any) -> Any:
    """Return a copy of the loss function that shares weights with it, but nothing that counts."""
    loss_func = learn.loss_func
    shared = [learn, learn.model, learn.dls, *learn.cbs]
    if isinstance(loss_func, torch.nn.Module):
        shared += loss_func.parameters()
    try:
        return copy.deepcopy(loss_func, {id(part): part for part in shared})
    except Exception:
        return None


def _gives(loss_func: Any, learn: Any) -> bool:
    """Say whether *loss_func* gives the loss that the validation has."""
    try:
        with torch.no_grad():
            again = _plain(loss_func(learn.pred, *learn.yb))
        return again.numel() == 1 and bool(
            torch.allclose(again.reshape(()), _plain(learn.loss).mean(), rtol=1e-3, equal_nan=True)
        )
    except Exception:
        return False


def _equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    return torch.equal(one.nan_to_num(), other.nan_to_num())


def _unreduced(loss: Any, learn: Any, items: int) -> torch.Tensor | None:
    try:
        with torch.no_grad(), _not_reduced(loss) as loss_func:
            losses = loss_func(learn.pred, *learn.yb)
        return _plain(losses).reshape(items, -1).mean(dim=1)
    except Exception:
        return None


@contextlib.contextmanager
def _not_reduced(loss_func: Any) -> Iterator[Any]:
    """Yield *loss_func* such that it gives a loss per item; raise if it says of none how."""
    if isinstance(getattr(loss_func, "reduction", None), str):
        kept, loss_func.reduction = loss_func.reduction, "none"
        try:
            yield loss_func
        finally:
            loss_func.reduction = kept
        return
    called = loss_func.forward if isinstance(loss_func, torch.nn.Module) else loss_func
    if "reduction" not in inspect.signature(called).parameters:
        msg = "this loss function is always reduced"
        raise TypeError(msg)
    yield functools.partial(loss_func, reduction="none")


def _plain(losses: torch.Tensor) -> torch.Tensor:
    return losses.detach().as_subclass(torch.Tensor).float()


@dataclasses.dataclass(slots=True)
class _Candidates:
    """The items of one batch with the highest losses, still on their device."""

    losses: torch.Tensor  # on the host, when ready
    ready: Any  # torch.cuda.Event, or None
    items: Any


class Worst:
    """
    Keep the items of the highest losses, the losses in falling order.

    Which items of a batch belong to them shows when its losses have reached the host;
    nobody waits for that, so a few items of the newest batches stay on the device.
    """

    def __init__(self, most: int = TOP) -> None:
        self._most = most
        self._waiting: list[_Candidates] = []
        self._found: list[tuple[float, Any]] = []

    def add(self, losses: torch.Tensor, select: Any) -> None:
        """
        Take the items of one batch.

        Args:
            losses: Shape (items,).
            select: Called with a tensor of item numbers, returns what is kept of these.
        """
        top = losses.nan_to_num().topk(min(self._most, len(losses)))
        if losses.device.type == "cpu" and self._full() and top.values[0] <= self._found[-1][0]:
            return
        values, ready = top.values, None
        if values.is_cuda:
            values = values.to("cpu", non_blocking=True)
            ready = torch.cuda.Event()  # type: ignore[no-untyped-call]
            ready.record()
        self._waiting.append(_Candidates(values, ready, select(top.indices)))
        self._settle(wait=False)

    def found(self) -> list[tuple[float, Any]]:
        """Return losses and items, the highest first."""
        self._settle(wait=True)
        return self._found

    def _full(self) -> bool:
        return len(self._found) >= self._most

    def _settle(self, *, wait: bool) -> None:
        while self._waiting:
            first = self._waiting[0]
            if first.ready is not None and not first.ready.query():
                if not wait and len(self._waiting) <= _MOST_WAITING:
                    return
                first.ready.synchronize()
            self._merge(self._waiting.pop(0))

    def _merge(self, new: _Candidates) -> None:
        least = self._found[-1][0] if self._full() else -float("inf")
        for row, loss in enumerate(new.losses.tolist()):
            if loss > least or not self._full():
                self._found.append((loss, new.items.row(row)))
        self._found = sorted(self._found, key=lambda pair: -pair[0])[: self._most]
