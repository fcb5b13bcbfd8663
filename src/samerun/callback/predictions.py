"""Predict a few items of the validation set, without a trace in the learner."""

from __future__ import annotations

import contextlib
import dataclasses
import random
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from fastai.text.data import LMDataLoader
from fastai.torch_core import default_device, find_bs, retain_type, to_device
from fastai.vision.core import TensorBBox

from samerun.callback.charts import charts
from samerun.callback.distributed import bare, unwrapped
from samerun.callback.tables import wandb_process

# Charts of the whole validation set, up to this many items.
_MOST_ITEMS = 2000


@dataclasses.dataclass
class Predicted:
    """One batch, on the CPU: inputs, targets and the activations of the model."""

    xb: tuple[Any, ...]
    yb: tuple[Any, ...]
    raw: Any
    preds: Any
    decoded: Any


@dataclasses.dataclass(frozen=True)
class _Indices:
    """Always return the same indices; a class, for lambdas cannot be pickled."""

    indices: Sequence[int]

    def __call__(self) -> list[int]:
        return list(self.indices)


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
        self._valid = unwrapped(learn.dls.valid)
        self._most, self._seed = n_preds, seed
        self._given = valid_dl is not None
        source = unwrapped(valid_dl) if self._given else self._valid
        if not hasattr(source, "show_results"):
            msg = f"a {type(source).__name__} cannot decode its items; fastai's DataLoader can"
            raise ValueError(msg)
        if not len(source.dataset):
            msg = "the validation set is empty"
            raise ValueError(msg)
        self.dl = source if self._given else self._drawn(n_preds)

    def table(self, learn: Any) -> dict[str, Any]:
        """Return the table of predictions, as ``wandb_process`` makes it."""
        return self._table(list(predict(learn, self.dl, self._most)), self.dl)

    def charts(self, learn: Any) -> dict[str, Any]:
        """Return the charts of the end of training; none for what is no classification."""
        if self._given:
            return {}
        indices = self._indices(_MOST_ITEMS)
        dl = subset(self._valid, indices)
        return charts(learn, predict(learn, dl, len(indices)), indices, self.top_table)

    def top_table(self, learn: Any, indices: Sequence[int]) -> dict[str, Any]:
        """Return the table of the items with the given indices of the validation set."""
        dl = subset(self._valid, indices)
        return self._table(list(predict(learn, dl, len(indices))), dl)

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
        return wandb_process(x, y, samples, outs, _joined([b.preds for b in batches]))


def subset(dl: Any, indices: Sequence[int]) -> Any:
    """Return a data loader like *dl* that yields the items *indices*, in their order."""
    options: dict[str, Any] = {"shuffle": False, "drop_last": False, "num_workers": 0}
    if type(dl).__name__.startswith("Tab"):
        # A table is decoded as a whole, not row by row.
        options["bs"] = max(1, len(indices))
    return dl.new(get_idxs=_Indices(indices), n=len(indices), **options)


def predict(learn: Any, dl: Any, most: int) -> Iterator[Predicted]:
    """
    Yield predictions for up to *most* items of *dl*, on the CPU, batch by batch.

    No callback hears of it, and nothing is gathered from other processes: ``learn.get_preds``
    would reset the recorder's metrics, and hang in a process that calls it alone.
    """
    model = bare(learn.model)
    with evaluating(model), torch.no_grad():
        for batch in dl:
            yield _predicted(learn, model, batch, dl.n_inp, most)
            most -= find_bs(batch)
            if most <= 0:
                return


def _predicted(learn: Any, model: Any, batch: Any, n_inp: int, most: int) -> Predicted:
    first = next(model.parameters(), None)
    device = first.device if first is not None else default_device()
    xb = to_device(tuple(batch[:n_inp]), device)
    raw = model(*[_plain(x, first) for x in xb])
    if isinstance(raw, tuple | list) and hasattr(learn, "rnn"):
        raw = raw[0]  # RNNCallback: the other elements are hidden states.
    raw = _cpu(raw, most)
    preds = getattr(learn.loss_func, "activation", lambda o: o)(raw)
    decoded = getattr(learn.loss_func, "decodes", lambda o: o)(preds)
    yb = _cpu(tuple(batch[n_inp:]), most)
    return Predicted(_cpu(tuple(batch[:n_inp]), most), yb, raw, preds, _typed(decoded, yb))


@contextlib.contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Put *model* into evaluation mode; each module gets its own mode back."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def _plain(x: Any, like: torch.Tensor | None) -> Any:
    """Cast as fastai's CastToTensor does, and as ModelToHalf, where the model is in half."""
    if not isinstance(x, torch.Tensor):
        return x
    x = x.as_subclass(torch.Tensor)
    if like is None or like.dtype not in (torch.float16, torch.bfloat16):
        return x
    return x.to(like.dtype) if x.is_floating_point() else x


def _cpu(value: Any, most: int) -> Any:
    """Copy the first *most* items of all tensors to the CPU, as float32 where they are half."""
    if isinstance(value, tuple | list):
        return tuple(_cpu(part, most) for part in value)
    if not isinstance(value, torch.Tensor):
        return value
    kept = value.detach()[:most].cpu() if value.ndim else value.detach().cpu()
    return kept.float() if kept.dtype in (torch.float16, torch.bfloat16) else kept


def _typed(decoded: Any, yb: tuple[Any, ...]) -> Any:
    """Give predictions the types of the targets; the dispatch of decoding goes by them."""
    if isinstance(decoded, tuple):
        return tuple(_typed(part, (y,)) for part, y in zip(decoded, yb, strict=False))
    if len(yb) > 1 and isinstance(yb[0], TensorBBox):
        # The model predicts boxes alone: the true labels are shown with them.
        boxes = decoded.reshape(len(decoded), -1, 4)
        return retain_type(boxes, yb[0]), *[y[:, : boxes.shape[1]] for y in yb[1:]]
    with contextlib.suppress(Exception):
        return retain_type(decoded, yb[0])
    return decoded


def _joined(parts: Sequence[Any]) -> Any:
    tensors = all(isinstance(part, torch.Tensor) for part in parts)
    if tensors and len({part.shape[1:] for part in parts}) == 1:
        return torch.cat(list(parts))
    return [item for part in parts for item in part]
