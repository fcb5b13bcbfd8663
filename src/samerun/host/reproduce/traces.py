"""The exact trace of a training: per epoch, metrics, each step's loss, each tensor's hash."""

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from samerun.core import contract, files
from samerun.core.record import Run


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """
    One epoch, with exact numbers (``float.hex``).

    *losses* and *tensors* are empty if only metrics are known.
    """

    fit: int
    epoch: int
    metrics: dict[str, str | None] = field(default_factory=dict)
    losses: tuple[str, ...] = ()
    tensors: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Trace:
    """A run's record and its epochs; *exact* if steps and tensors are known."""

    run: Run
    epochs: tuple[Epoch, ...]
    exact: bool


def trace(run: Run, folder: Path | None) -> Trace:
    """Return the trace of the run in *folder*, or from its record only if the file is missing."""
    content = b""
    if folder is not None:
        try:
            content = files.read_plain(folder / contract.STEPS)
        except OSError:  # From an older image, or without any training.
            content = b""
    return trace_of(run, content)


def trace_of(run: Run, content: bytes) -> Trace:
    """Return the trace of *run* from the content of its ``epochs.jsonl``, which may be empty."""
    exact = tuple(_read(content))
    if exact:
        return Trace(run=run, epochs=exact, exact=True)
    return Trace(run=run, epochs=tuple(_from_result(run.result)), exact=False)


def _read(content: bytes) -> Iterator[Epoch]:
    """Parse the lines up to a truncated one; the last line of an epoch wins."""
    epochs: dict[tuple[int, int], Epoch] = {}
    for line in content.splitlines():
        try:
            epoch = _epoch(json.loads(line))
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            break
        epochs[epoch.fit, epoch.epoch] = epoch
    yield from epochs.values()


def _epoch(raw: Mapping[str, Any]) -> Epoch:
    if not isinstance(raw["losses"], list):
        raise TypeError("losses are no list")
    for text in (*raw["losses"], *raw["metrics"].values()):
        if text is not None:
            float.fromhex(text)
    return Epoch(
        fit=int(raw["fit"]),
        epoch=int(raw["epoch"]),
        metrics=dict(raw["metrics"]),
        losses=tuple(raw["losses"]),
        tensors={str(name): str(value) for name, value in raw["tensors"].items()},
    )


def _from_result(result: Mapping[str, Any]) -> Iterator[Epoch]:
    rows = result.get("epochs")
    for number, row in enumerate(rows if isinstance(rows, list) else ()):
        values = row if isinstance(row, dict) else {}
        metrics = {name: _hex(value) for name, value in values.items()}
        yield Epoch(fit=0, epoch=number, metrics=metrics)


def _hex(value: Any) -> str | None:
    try:
        return float(value).hex() if isinstance(value, int | float) else None
    except OverflowError:  # An integer of hundreds of digits.
        return None


def metrics_only(epochs: Sequence[Epoch]) -> tuple[Epoch, ...]:
    """Return *epochs* numbered consecutively, without steps and tensors, for comparison."""
    return tuple(
        dataclasses.replace(e, fit=0, epoch=i, losses=(), tensors={}) for i, e in enumerate(epochs)
    )


def number(text: str | None) -> float | None:
    """Return the number in ``float.hex`` format."""
    return None if text is None else float.fromhex(text)
