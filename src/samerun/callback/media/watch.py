"""Read what a validation sees, computes and returns, while it happens."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch
from fastai.callback.core import Callback, CancelValidException
from fastai.learner import Recorder

from samerun.callback.fits import infers
from samerun.callback.media.batches import (
    elements,
    full,
    items_of,
    joined,
    mapped,
    same,
    shapes,
    take,
    to_host,
    typed,
    versions,
)
from samerun.callback.media.draw import Draw, InOrder, draw_of
from samerun.callback.media.losses import ItemLosses, Worst
from samerun.callback.media.predictions import decode
from samerun.callback.warn import Warner

# Charts of the whole validation set, up to this many items.
MOST_CHARTED = 2000
# Numbers per item: what charts are made of has few; more than the latter is decoded at once,
# for the activations of a language model or of large masks would fill the host's memory.
_FEW, _MANY = 256, 2**20
_FIRST, _LAST = -(10**9), 10**9


@dataclasses.dataclass(slots=True)
class Seen:
    """Some items: what the loader gave, what the model got and returned, and the targets."""

    slots: list[int]
    xb: Any
    fed: Any  # None where it is xb
    yb: Any
    raw: Any  # None where it was decoded at once
    decoded: Any = None

    def row(self, row: int) -> Seen:
        """Return one item, on the host."""
        items = len(self.slots)
        parts = (self.xb, self.fed, self.yb, self.raw, self.decoded)
        return Seen([0], *(to_host(take(part, [row], items)) for part in parts))


@dataclasses.dataclass
class Record:
    """What one validation leaves: items to show, those of the charts, those of highest loss."""

    dl: Any
    shown: list[Seen] = dataclasses.field(default_factory=list)
    charted: list[Seen] = dataclasses.field(default_factory=list)
    worst: Worst | None = dataclasses.field(default_factory=Worst)
    items: int = 0

    def settle(self) -> Record:
        """Wait, once, for what is on its way to the host."""
        if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.synchronize()
        self.shown, self.charted = merged(self.shown), merged(self.charted)
        return self


class _Probe(Callback):
    """Call functions at events, in no time at all others."""

    remove_on_fetch = True

    def __init__(self, order: int, **handlers: Callable[[], None]) -> None:
        self.order, self._handlers = order, handlers

    def __call__(self, event_name: str) -> None:
        """Call the handler of *event_name*."""
        handler = self._handlers.get(event_name)
        if handler is not None:
            handler()

    def __reduce__(self) -> Any:
        """Leave no trace in a copy or an export of the learner."""
        return Callback, ()


class Watch:
    """
    Watch one validation of *learn*, from its ``before_validate`` on.

    It reads when fastai's own ``Recorder`` does, so that what is kept is what the metrics
    are made of. Weights, random state and the learner's attributes stay as they are, and
    the host does not wait for the device.

    Args:
        learn: The learner.
        warner: Tells what could not be kept.
        n_preds: How many items to show; ``seed`` chooses them.
        seed: See there.
        classes: How many classes each target has, as far as it is known.
        in_order: Show the first items, and end the validation after them.
        charts: Keep what charts need.
    """

    def __init__(
        self,
        learn: Any,
        warner: Warner,
        n_preds: int,
        seed: int,
        classes: Sequence[Any] = (),
        *,
        in_order: bool = False,
        charts: bool = True,
    ) -> None:
        self._learn, self._warner, self._classes = learn, warner, classes
        self._most, self._seed, self._charts = n_preds, seed, charts
        self._dl, self.record = learn.dl, Record(learn.dl)
        self._draw: Draw | None = InOrder(n_preds) if in_order else None
        self._stops, self._over = in_order and not charts, False
        self._charted = Draw(0, 0, 0)
        self._losses = ItemLosses()
        self._batch: _Batch | None = None
        self._changes: bool | None = None  # whether inputs are changed in their place
        self._probes = [
            _Probe(_FIRST, before_batch=self._guard(self._loaded)),
            _Probe(_LAST, before_batch=self._guard(self._given)),
            _Probe(
                Recorder.order,
                after_pred=self._guard(self._predicted),
                after_cancel_batch=self._guard(self._cancelled),
                after_batch=self._guard(self._validated),
            ),
        ]

    def attach(self) -> Watch:
        """Begin to watch."""
        for probe in self._probes:
            object.__setattr__(probe, "learn", self._learn)
            self._learn.cbs.append(probe)
        return self

    def detach(self) -> Record | None:
        """Stop to watch; return what was seen, None if nothing was."""
        ours = {id(probe) for probe in self._probes}
        for n in reversed([n for n, cb in enumerate(self._learn.cbs) if id(cb) in ours]):
            self._learn.cbs.pop(n)
        self._probes, self._batch = [], None
        return self.record.settle() if self.record.items else None

    def _guard(self, handler: Callable[[], _Batch | None]) -> Callable[[], None]:
        def guarded() -> None:
            learn = self._learn
            # Other events than those of this validation: get_preds within it, say.
            if learn.training or learn.dl is not self._dl or infers(learn):
                return
            self._batch = self._handled(handler)
            if self._over:
                raise CancelValidException

        return guarded

    def _handled(self, handler: Callable[[], _Batch | None]) -> _Batch | None:
        with self._warner.guarded("prediction samples"):
            return handler()
        return None

    def _loaded(self) -> _Batch:
        learn = self._learn
        items = items_of(learn.xb, learn.yb)
        if self._draw is None:
            self._draw = draw_of(self._dl, self._most, self._seed)
        if not self.record.items and self._charts:
            self._charted = draw_of(self._dl, MOST_CHARTED, self._seed)
        rows, slots = self._draw.rows(items)
        copies = self._changes is not False
        return _Batch(
            items, rows, slots, learn.xb, learn.yb, versions(learn.xb),
            copy=mapped(learn.xb, _clone) if copies else None,
            xb=take(learn.xb, rows, items) if rows else None,
        )  # fmt: skip

    def _given(self) -> _Batch | None:
        batch = self._batch
        if batch is not None and not same(batch.loaded, self._learn.xb):
            batch.given = self._learn.xb
            batch.fed = take(batch.given, batch.rows, batch.items) if batch.rows else None
        return batch

    def _predicted(self) -> _Batch | None:
        if self._batch is not None:
            self._batch.predicted = True
        return self._batch

    def _cancelled(self) -> _Batch | None:
        # What learn.pred holds is of the batch before, if the model was not asked.
        return self._batch if self._batch is not None and self._batch.predicted else None

    def _validated(self) -> None:
        batch = self._batch
        if batch is None or not batch.items or self._learn.pred is None:
            return
        if self._changes is None:
            self._changes = versions(batch.loaded) != batch.versions
        self.record.items += batch.items
        self._over = self._stops and self._draw is not None and self._draw.done
        if batch.rows:
            self._keep_shown(batch)
        if self._charts:
            self._keep_charted(batch)
            self._keep_worst(batch)

    def _targets(self, batch: _Batch) -> Any:
        return typed(self._learn.yb, batch.yb)

    def _keep_shown(self, batch: _Batch) -> None:
        rows, items = batch.rows, batch.items
        yb = take(self._targets(batch), rows, items)
        raw = take(self._learn.pred, rows, items)
        self._append(
            self.record.shown,
            Seen(batch.slots, batch.xb, batch.fed, yb, *self._kept(raw, yb, rows)),
        )

    def _kept(self, raw: Any, yb: Any, rows: Any) -> tuple[Any, Any]:
        """Return activations to keep, or None and what they decode to, where they are many."""
        if elements(raw) <= _MANY * len(rows):
            return raw, None
        return None, decode(self._learn.loss_func, raw, yb, self._classes)[1]

    def _keep_charted(self, batch: _Batch) -> None:
        learn, items = self._learn, batch.items
        rows, slots = self._charted.rows(items)
        if not rows or elements(learn.pred) + elements(learn.yb) > _FEW * items:
            return
        yb = take(self._targets(batch), rows, items)
        self._append(
            self.record.charted, Seen(slots, None, None, yb, take(learn.pred, rows, items))
        )

    def _keep_worst(self, batch: _Batch) -> None:
        learn, worst, items = self._learn, self.record.worst, batch.items
        if worst is None:
            return
        losses = self._losses.of(learn, items) if len(learn.yb) else None
        if losses is None:
            self.record.worst = None
            return

        def select(rows: torch.Tensor) -> Seen:
            xb = batch.loaded if batch.copy is None else batch.copy
            yb = take(self._targets(batch), rows, items)
            fed = None if batch.given is None else take(batch.given, rows, items)
            raw = take(learn.pred, rows, items)
            return Seen([0] * len(rows), take(xb, rows, items), fed, yb, *self._kept(raw, yb, rows))

        worst.add(losses, select)

    def _append(self, kept: list[Seen], seen: Seen) -> None:
        parts = (seen.xb, seen.fed, seen.yb, seen.raw, seen.decoded)
        kept.append(Seen(seen.slots, *(to_host(part) for part in parts)))
        taken = set(seen.slots)
        for other in kept[:-1]:
            other.slots = [-1 if slot in taken else slot for slot in other.slots]
        kept[:] = [other for other in kept if any(slot >= 0 for slot in other.slots)]


@dataclasses.dataclass(slots=True)
class _Batch:
    """A batch under way."""

    items: int
    rows: list[int]
    slots: list[int]
    loaded: Any
    yb: Any
    versions: list[int]
    copy: Any
    xb: Any
    given: Any = None
    fed: Any = None
    predicted: bool = False


def _clone(tensor: torch.Tensor) -> Any:
    return typed(tensor.detach().as_subclass(torch.Tensor).clone(), tensor)


def merged(kept: list[Seen]) -> list[Seen]:
    """Return the items of *kept* as one batch in the order of their slots, if they are alike."""
    alive = [_alive(seen) for seen in kept]
    merged = _as_one(alive) if len({_form(seen) for seen in alive}) == 1 else None
    return [merged] if merged is not None else alive


def _alive(seen: Seen) -> Seen:
    rows = sorted(
        (row for row, slot in enumerate(seen.slots) if slot >= 0), key=seen.slots.__getitem__
    )
    items = len(seen.slots)
    parts = (seen.xb, seen.fed, seen.yb, seen.raw, seen.decoded)
    return Seen(
        [seen.slots[row] for row in rows], *(full(take(part, rows, items)) for part in parts)
    )


def _form(seen: Seen) -> str:
    parts = (seen.xb, seen.fed, seen.yb, seen.raw, seen.decoded)
    return str([(type(part).__name__, shapes(part)) for part in parts])


def _as_one(alive: list[Seen]) -> Seen:
    slots = [slot for seen in alive for slot in seen.slots]
    columns = zip(*((s.xb, s.fed, s.yb, s.raw, s.decoded) for s in alive), strict=True)
    return _alive(Seen(slots, *(joined(list(column)) for column in columns)))
