"""Collect one row per training step without touching the device."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence
from typing import Any

import torch

from samerun.callback.stream.bulk import Handover, Row


@dataclasses.dataclass(slots=True)
class Step:
    """One training step as it was seen, its losses still on the device."""

    number: int
    epoch: float
    time_s: float
    raw_loss: Any
    smooth_loss: Any
    hypers: tuple[dict[str, Any], ...]
    samples_per_s: float | None
    extra: dict[str, Any] | None = None


class RowBuffer:
    """
    Keep steps until *every* of them are there, or *seconds* have passed, then send all.

    The newest step always stays: the metrics of the epoch belong into its row.
    """

    def __init__(self, handover: Handover, prefix: str, every: int, seconds: float) -> None:
        self._handover = handover
        self._prefix = prefix
        self._every, self._seconds = every, seconds
        self._steps: list[Step] = []
        self._sent_at = time.monotonic()

    def add(self, step: Step) -> None:
        """Keep *step*; send what is old enough."""
        steps = self._steps
        steps.append(step)
        late = time.monotonic() - self._sent_at > self._seconds
        if len(steps) > self._every or late:
            self.send_older()

    def send_older(self) -> None:
        """Send all steps but the newest."""
        self._send(len(self._steps) - 1, {})

    def close_row(self, values: Row) -> None:
        """Send everything, *values* in the row of the newest step, or in a separate row."""
        if not self._steps and values:
            self._handover.send([self._prefixed({**values, "_timestamp": time.time()})])
        self._send(len(self._steps), values)

    def pending(self) -> dict[str, Any] | None:
        """Send all but the newest step, and return that one as plain values."""
        self.send_older()
        if not self._steps:
            return None
        (newest,) = self._steps
        losses = {"raw_loss": to_number(newest.raw_loss)}
        losses["smooth_loss"] = to_number(newest.smooth_loss)
        hypers = tuple({k: to_number(v) for k, v in group.items()} for group in newest.hypers)
        plain = dataclasses.replace(newest, **losses, hypers=hypers)
        return {field.name: getattr(plain, field.name) for field in dataclasses.fields(plain)}

    def restore(self, pending: dict[str, Any] | None) -> None:
        """Take back what `pending` returned, in the place of all steps."""
        self._steps = [Step(**pending)] if pending else []

    def discard(self) -> int:
        """Forget all steps, and return how many there were."""
        lost = len(self._steps)
        self._steps = []
        return lost

    def _send(self, count: int, last: Row) -> None:
        self._sent_at = time.monotonic()
        if count < 1:
            return
        steps, self._steps = self._steps[:count], self._steps[count:]
        rows = rows_of(steps)
        rows[-1].update(_memory())
        rows[-1].update(last)
        self._handover.send([self._prefixed(row) for row in rows])

    def _prefixed(self, row: Row) -> Row:
        if not self._prefix:
            return row
        return {k if k.startswith("_") else self._prefix + k: v for k, v in row.items()}


def rows_of(steps: Sequence[Step]) -> list[Row]:
    """Turn steps into rows of plain numbers, with one copy from the device for all of them."""
    raw = to_floats([step.raw_loss for step in steps])
    smooth = to_floats([step.smooth_loss for step in steps])
    rows = []
    for step, raw_loss, train_loss in zip(steps, raw, smooth, strict=True):
        row: Row = {"epoch": step.epoch, "train_step": step.number}
        row |= {"train_loss": train_loss, "raw_loss": raw_loss}
        for group, hypers in enumerate(step.hypers):
            for name, value in hypers.items():
                # Schedules may hold tensors (fastai PR 2704).
                row[f"{name}_{group}"] = value if type(value) is float else to_number(value)
        row["train_samples_per_sec"] = step.samples_per_s
        if step.extra:
            row |= {key: to_number(value) for key, value in step.extra.items()}
        row["_timestamp"] = step.time_s
        rows.append({key: value for key, value in row.items() if value is not None})
    return rows


def to_floats(values: Sequence[Any]) -> list[float | None]:
    """
    Copy scalars or small tensors to the host, all at once where they are alike.

    Args:
        values: Tensors of shape () or of any shape, whose mean counts; numbers; or None.
    """
    tensors = [value for value in values if isinstance(value, torch.Tensor)]
    alike = len(tensors) == len(values) and len({(t.device, t.dtype) for t in tensors}) == 1
    if alike and all(t.ndim == 0 for t in tensors):
        plain = [t.as_subclass(torch.Tensor) for t in tensors]
        return [float(x) for x in torch.stack(plain).tolist()]
    return [to_number(value) for value in values]


def to_number(value: Any) -> Any:
    """Return *value* as a number or a string that JSON knows, or None if it has no such form."""
    if isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, torch.Tensor):
        value = value.detach().as_subclass(torch.Tensor)
        return value.float().mean().item() if value.numel() else math.nan
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        return to_number(value.item())
    return None


def _memory() -> Row:
    if not (torch.cuda.is_available() and torch.cuda.is_initialized()):  # type: ignore[no-untyped-call]
        return {}
    # Bookkeeping of the allocator: no synchronization.
    return {
        "gpu_memory_gib": torch.cuda.memory_allocated() / 2**30,
        "gpu_memory_peak_gib": torch.cuda.max_memory_allocated() / 2**30,
    }
