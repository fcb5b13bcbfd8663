"""The items that are shown, and the tables and charts of them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fastai.text.data import LMDataLoader
from fastai.torch_core import find_bs

from samerun.callback.distributed import unwrapped
from samerun.callback.media.charts import TOP, Chart, charts
from samerun.callback.media.predictions import Predicted, evaluate, joined, predict, subset
from samerun.callback.media.tables import KEY, wandb_process

if TYPE_CHECKING:
    import torch

# Charts of the whole validation set, up to this many items.
_MOST_ITEMS = 2000


class Samples:
    """
    The items to show.

    Args:
        learn: The learner.
        valid_dl: A data loader with the items, or None for random ones of ``learn.dls.valid``.
        n_preds: How many of them.
        seed: Which ones.

    Raises:
        ValueError: There is no item to show, or no way to decode it.
    """

    def __init__(self, learn: Any, valid_dl: Any, n_preds: int, seed: int) -> None:
        valid: Any = unwrapped(learn.dls.valid) if len(learn.dls.loaders) > 1 else None
        self._valid = valid
        self._most, self._seed = n_preds, seed
        self._shown = False
        source = self._valid if valid_dl is None else unwrapped(valid_dl)
        if not hasattr(source, "show_results"):
            msg = f"{type(source).__name__} cannot decode items; a DataLoader of fastai can"
            raise ValueError(msg)
        if not len(source.dataset):
            msg = "the validation set is empty"
            raise ValueError(msg)
        self.dl = self._drawn(n_preds) if valid_dl is None else source

    def table(self, learn: Any) -> dict[str, Any]:
        """Return the table of predictions, as ``wandb_process`` makes it."""
        values = self._table(list(predict(learn, self.dl, self._most)), self.dl)
        self._shown = KEY in values
        return values

    def charts(self, learn: Any) -> dict[str, Chart]:
        """Return what draws the charts of the end of training, by their keys."""
        if isinstance(self._valid, LMDataLoader):
            return {}  # A language model's items are pieces of one stream.
        if self._valid is None or not len(self._valid.dataset):
            return {}
        indices = self._indices(_MOST_ITEMS)
        vocab = getattr(learn.dls, "vocab", None)
        found, losses = charts(vocab, evaluate(learn, self._subset(indices), len(indices)))
        if len(losses) and self._shown:
            found["Top_Losses"] = lambda: self._top_losses(learn, indices, losses)
        return found

    def _top_losses(self, learn: Any, indices: Sequence[int], losses: torch.Tensor) -> Any:
        top = losses.nan_to_num().topk(min(TOP, len(losses)))
        dl = self._subset([indices[i] for i in top.indices.tolist()])
        table = self._table(list(predict(learn, dl, TOP)), dl)[KEY]
        table.add_column("Loss", top.values.tolist())
        return table

    def _subset(self, indices: Sequence[int]) -> Any:
        return subset(self._valid, indices)

    def _indices(self, most: int) -> list[int]:
        size = len(self._valid.dataset)
        return random.Random(self._seed).sample(range(size), min(most, size))  # noqa: S311

    def _drawn(self, count: int) -> Any:
        if isinstance(self._valid, LMDataLoader):
            return self._valid.new(shuffle=False, num_workers=0)
        return subset(self._valid, self._indices(count))

    def _table(self, batches: list[Predicted], dl: Any) -> dict[str, Any]:
        """Decode batch by batch: texts of different batches have different lengths."""
        samples, outs, first = [], [], None
        for batch in batches:
            shown = dl.show_results(
                batch.xb + batch.yb, batch.decoded, show=False, max_n=find_bs(batch.xb)
            )
            first = first or shown[:2]
            samples += list(shown[2] or ())
            outs += list(shown[3] or ())
        x, y = first or (None, None)
        return wandb_process(x, y, samples, outs, joined([b.preds for b in batches]))
