"""The items that are shown, and the tables and charts of them."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from typing import Any

import torch
from fastai.text.data import LMDataLoader

from samerun.callback.distributed import unwrapped, world_size
from samerun.callback.fits import validation_loader
from samerun.callback.media.batches import joined
from samerun.callback.media.charts import Chart, charts
from samerun.callback.media.classes import target_classes
from samerun.callback.media.decoding import decoded_items
from samerun.callback.media.predictions import columns_of, decode
from samerun.callback.media.tables import KEY, wandb_process
from samerun.callback.media.validation import subset, validate
from samerun.callback.media.watch import MOST_CHARTED, Record, Seen, Watch
from samerun.callback.warn import Warner


class Samples:
    """
    Show what the learner's validation of each epoch saw, computed and returned.

    Only two kinds of items are predicted for it: those of *valid_dl*, which no validation
    sees; and those of a distributed training, whose processes see a part each.

    Args:
        learn: The learner.
        warner: Tells what could not be kept.
        valid_dl: A data loader with the items, or None for random ones of ``learn.dls.valid``.
        n_preds: How many of them.
        seed: Which ones.

    Raises:
        ValueError: There is no item to show.
    """

    def __init__(self, learn: Any, warner: Warner, valid_dl: Any, n_preds: int, seed: int) -> None:
        self._valid = unwrapped(validation_loader(learn.dls))
        self._given = None if valid_dl is None else unwrapped(valid_dl)
        self._most, self._seed, self._warner = n_preds, seed, warner
        self._learn, self._classes = learn, target_classes(learn.dls)
        self._counts = [None if names is None else len(names) for names in self._classes]
        self._watch: Watch | None = None
        self._last: Record | None = None
        self._saved: Record | None = None
        self._due = self._shown = self._current = self._ended = False
        if _is_empty(self._valid if self._given is None else self._given):
            msg = "the validation set is empty"
            raise ValueError(msg)

    # -- while validation goes on ----------------------------------------------------------

    def begin_epoch(self) -> None:
        """Get ready for the validation of an epoch."""
        self.end_validation()
        self._due, self._current = world_size() == 1, False

    def begin_validation(self) -> None:
        """Watch the validation that begins, if it is the first of the epoch."""
        if self._due:
            self._due = False
            self._watch = self._watching(Watch, self._learn)
            self._watch.attach()

    def end_validation(self) -> None:
        """Keep what was seen."""
        watch, self._watch = self._watch, None
        if watch is not None:
            self._last = watch.detach() or self._last
            self._current = True

    def end_fit(self, *, loaded: bool) -> None:
        """Show the last validation from here on, or that of the saved model if it was *loaded*."""
        self._current = self._ended = True
        # A process that has resumed may not have seen the validation of the model that is loaded.
        self._last = self._saved if loaded else self._last

    def model_saved(self) -> None:
        """Remember that the model of the last validation was saved, and may be loaded later."""
        self._saved = self._last

    def _watching(self, make: Any, *args: Any, **options: Any) -> Any:
        given = {"warner": self._warner, "n_preds": self._most, "seed": self._seed}
        return make(*args, **given, classes=self._counts, **options)

    def _validate(self, dl: Any, *, charts: bool) -> Record | None:
        options = {"in_order": True, "charts": charts, "fit_ended": self._ended}
        return self._watching(validate, self._learn, dl, **options)

    # -- tables and charts -----------------------------------------------------------------

    def table(self) -> dict[str, Any]:
        """Return the table of predictions, as ``wandb_process`` makes it."""
        record = None
        if self._most:
            record = self._validated() if self._given is None else self._of_given()
        if record is None:
            return {}
        values = self._table(record.shown, record.dl)
        self._shown = KEY in values
        return values

    def charts(self) -> dict[str, Chart]:
        """Return what draws the charts of the end of training, by their keys."""
        if isinstance(self._valid, LMDataLoader) or _is_empty(self._valid):
            return {}  # A language model's items are pieces of one stream.
        record = self._validated(charts=True)
        if record is None:
            return {}
        found = self._class_charts(record.charted)
        if record.worst is not None and record.worst.found() and self._shown:
            found["Top_Losses"] = lambda: self._top_losses(record)
        return found

    def _validated(self, *, charts: bool = False) -> Record | None:
        """Return what validation saw, or validate some items where this process saw none."""
        if self._last is not None and self._current:
            return self._last
        if not hasattr(self._valid, "new") or not hasattr(self._valid, "show_results"):
            msg = "no validation was seen"
            raise ValueError(msg)
        record = self._predicted(charts=charts)
        if charts and record is not None:
            self._last = record
        return record

    def _predicted(self, *, charts: bool) -> Record | None:
        """Validate random items of the validation set, the samples first."""
        if isinstance(self._valid, LMDataLoader):
            dl = self._valid.new(shuffle=False, num_workers=0)
            return self._validate(dl, charts=False)
        valid: Any = self._valid
        items = range(len(valid.dataset))
        drawn = random.Random(self._seed).sample(items, min(self._most, len(items)))  # noqa: S311
        if charts:
            others = sorted(set(items) - set(drawn))
            more = min(MOST_CHARTED - len(drawn), len(others))
            drawn += random.Random(self._seed).sample(others, max(more, 0))  # noqa: S311
        dl = subset(self._valid, drawn)
        return self._validate(dl, charts=charts)

    def _of_given(self) -> Record | None:
        return self._validate(self._given, charts=False)

    def _class_charts(self, seen: Sequence[Seen]) -> dict[str, Chart]:
        if not seen or not any(self._classes):
            return {}
        yb, raw = joined([s.yb for s in seen]), joined([s.raw for s in seen])
        preds, found = decode(self._learn.loss_func, raw, yb, self._counts)
        columns = columns_of(yb, self._counts)
        if columns and isinstance(found, torch.Tensor):
            yb, found = columns, found.unbind(dim=1)
        return charts(self._classes, yb, preds, found)

    def _top_losses(self, record: Record) -> Any:
        worst = record.worst.found() if record.worst is not None else []
        seen = [dataclasses.replace(item, slots=[n]) for n, (_, item) in enumerate(worst)]
        table = self._table(seen, record.dl)[KEY]
        table.add_column("Loss", [loss for loss, _ in worst])
        return table

    def _table(self, seen: Sequence[Seen], dl: Any) -> dict[str, Any]:
        labeled = self._last.shown[0].yb if self._last and self._last.shown else ()
        decoder = self._decoder(dl, labeled=bool(seen) and len(seen[0].yb) > 0)
        shown = decoded_items(self._learn, seen, decoder, self._counts, labeled)
        return wandb_process(shown.x, shown.y, shown.samples, shown.outs, shown.preds)

    def _decoder(self, dl: Any, *, labeled: bool) -> Any:
        """Return what decodes the items of *dl*; for those without targets it is the learner's."""
        candidates = [dl, self._given, self._valid] if labeled else [self._valid, dl]
        found = next((c for c in candidates if hasattr(c, "show_results")), None)
        if found is None:
            msg = f"{type(dl).__name__} cannot decode items; a DataLoader of fastai can"
            raise ValueError(msg)
        return found


def _is_empty(dl: Any) -> bool:
    """Say whether *dl* surely has no item; loaders of other libraries may have no length."""
    try:
        return dl is None or not len(dl.dataset)
    except Exception:
        return False
