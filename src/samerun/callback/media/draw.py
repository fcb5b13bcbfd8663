"""Which items of a validation set are kept."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from fastai.text.data import LMDataLoader


class Draw:
    """
    Choose up to *most* of the items that come by, the same ones for the same seed.

    Args:
        most: How many.
        seed: Which ones.
        size: How many items there are; None if nobody knows: then each that comes has the
            same chance to be among the chosen.
        indices: The item at each place, for loaders that choose their own order.
    """

    def __init__(
        self, most: int, seed: int, size: int | None, indices: Sequence[int] | None = None
    ) -> None:
        self._random, self._most, self._seen = random.Random(seed), most, 0  # noqa: S311
        self._indices = indices
        self._wanted: dict[int, int] | None = None
        if size is not None:
            drawn = self._random.sample(range(size), min(most, size))
            self._wanted = {item: slot for slot, item in enumerate(drawn)}

    def rows(self, items: int) -> tuple[list[int], list[int]]:
        """Return which of the next *items* are chosen, and the place of each among all chosen."""
        start, self._seen = self._seen, self._seen + items
        places: Sequence[int] = range(start, start + items)
        if self._indices is not None:
            places = self._indices[start : start + items]
        slots = [self._slot(int(place)) for place in places]
        found = {slot: row for row, slot in enumerate(slots) if slot is not None}
        return list(found.values()), list(found)

    @property
    def done(self) -> bool:
        """Say whether as many items as are wanted have come by."""
        return self._seen >= self._most

    def _slot(self, place: int) -> int | None:
        if self._wanted is not None:
            return self._wanted.get(place)
        slot = place if place < self._most else self._random.randrange(place + 1)
        return slot if slot < self._most else None


class InOrder(Draw):
    """Choose the first *most* items."""

    def __init__(self, most: int) -> None:
        super().__init__(most, 0, 0)
        self._wanted = {place: place for place in range(most)}


def draw_of(dl: Any, most: int, seed: int) -> Draw:
    """Return what chooses *most* items of the loader *dl*, which has begun to give batches."""
    if isinstance(dl, LMDataLoader):
        return InOrder(most)  # Its items are pieces of one stream.
    indices = getattr(dl, "_DataLoader__idxs", None)
    size = _length(getattr(dl, "dataset", None))
    if not isinstance(indices, list) or not hasattr(dl, "get_idxs"):
        return Draw(most, seed, size)
    if len(indices) == size == len(set(indices)):
        return Draw(most, seed, size, indices)
    return Draw(most, seed, len(indices))


def _length(dataset: Any) -> int | None:
    try:
        return len(dataset)
    except Exception:
        return None
