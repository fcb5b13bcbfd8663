"""Turn items back into what people look at, by the data loader that made them."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from fastai.data.core import TfmdDL

from samerun.callback.media.batches import joined, shapes, take, typed
from samerun.callback.media.predictions import decode
from samerun.callback.media.watch import Seen, merged

# A channel that is the same everywhere.
_FLAT = 1e-6
# Inputs that a callback has only scaled, as normalizations on the device do.
_ALIKE = 0.999


@dataclasses.dataclass
class Decoded:
    """What ``wandb_process`` takes."""

    x: Any
    y: Any
    samples: list[Any]
    outs: list[Any]
    preds: Any


def decoded_items(
    learn: Any, seen: Sequence[Seen], dl: Any, classes: Sequence[Any], like: Any = ()
) -> Decoded:
    """
    Return the items of *seen* in the order of their slots, decoded.

    Args:
        learn: The learner; its loss function says what activations mean.
        seen: Items, in batches.
        dl: The data loader that decodes them.
        classes: How many classes each target has, as far as it is known.
        like: Targets of other items, for items without.
    """
    groups, slots, firsts = [], [], []
    for batch in merged(list(seen)):
        found = _decoded(learn, batch, dl, classes, like)
        groups.append(found)
        slots += batch.slots
        firsts.append((found.x, found.y))
    x, y = firsts[0] if firsts else (None, None)
    order = sorted(range(len(slots)), key=slots.__getitem__)
    samples = [s for group in groups for s in group.samples]
    outs = [o for group in groups for o in group.outs]
    preds = joined([group.preds for group in groups])
    if len(groups) == 1:
        return Decoded(x, y, samples, outs, preds)
    preds = take(preds, order, len(slots)) if preds is not None else None
    return Decoded(x, y, [samples[n] for n in order], [outs[n] for n in order], preds)


def _decoded(learn: Any, seen: Seen, dl: Any, classes: Sequence[Any], like: Any) -> Decoded:
    items = len(seen.slots)
    xb, yb = tuple(_shown(seen.xb, seen.fed)), tuple(seen.yb)
    kinds = yb or tuple(take(tuple(like), [0] * items, len(like[0])) if len(like) else ())
    preds, found = None, seen.decoded
    if found is None:
        preds, found = decode(learn.loss_func, seen.raw, kinds, classes)
    if not yb:
        return _unlabelled(dl, xb, found, preds, items)
    x, y, samples, outs = _results(dl, xb + yb, found, items)
    return Decoded(x, y, list(samples or ()), list(outs or ()), preds)


def _unlabelled(dl: Any, xb: tuple[Any, ...], found: Any, preds: Any, items: int) -> Decoded:
    """Decode inputs and predictions of items that have no targets."""
    parts = tuple(found) if isinstance(found, tuple | list) else (found,)
    x, y, both = _batch(dl, xb + parts, items)
    n_inp = len(xb)
    samples = [(*item[:n_inp], *[None] * len(parts)) for item in both]
    return Decoded(x, y, samples, [tuple(item[n_inp:]) for item in both], preds)


def _results(dl: Any, batch: tuple[Any, ...], found: Any, items: int) -> Any:
    """Return what ``show_results`` would draw, also of a loader whose own does nothing but draw."""
    if not _draws(dl, "show_results") and not any(isinstance(part, Mapping) for part in batch):
        return dl.show_results(batch, found, show=False, max_n=items)
    parts = tuple(found) if isinstance(found, tuple | list) else (found,)
    x, y, samples = _batch(dl, batch, items)
    *_, both = _batch(dl, (*batch[: dl.n_inp], *parts), items)
    return x, y, samples, [tuple(item[dl.n_inp :]) for item in both]


def _batch(dl: Any, batch: tuple[Any, ...], items: int) -> Any:
    show: Any = partial(TfmdDL.show_batch, dl) if _draws(dl, "show_batch") else dl.show_batch
    if not any(isinstance(part, Mapping) for part in batch):
        return show(batch, show=False, max_n=items)
    # fastai decodes no batch that has a dictionary in it: each part goes its own way.
    columns = [_column(dl, n, part, items) for n, part in enumerate(batch)]
    x, y = batch[: dl.n_inp], batch[dl.n_inp :]
    rows = list(zip(*columns, strict=True))
    return x[0] if len(x) == 1 else x, y[0] if len(y) == 1 else y, rows


def _column(dl: Any, n: int, part: Any, items: int) -> list[Any]:
    """Return the items of the *n*-th part of a batch, decoded if it is no dictionary."""
    if isinstance(part, Mapping):
        return [_row(part, row) for row in range(items)]
    pipeline = dl.dataset.tls[n]
    return [pipeline.decode(part[row], full=False) for row in range(items)]


def _row(named: Any, row: int) -> Any:
    """Return one item of a dictionary of batches."""
    return {key: part[row] if hasattr(part, "__getitem__") else part for key, part in named.items()}


def _draws(dl: Any, method: str) -> bool:
    """Say whether *method* of a loader of another library takes no ``show=False``."""
    if not isinstance(dl, TfmdDL):
        return False
    return "show" not in inspect.signature(getattr(dl, method)).parameters


def _shown(xb: Any, fed: Any) -> Any:
    """
    Return the inputs as the model got them, where those can be shown.

    A dictionary for a model of texts can't be decoded, nor can numbers that a callback has
    scaled: then it is what the loader gave.
    """
    if fed is None or isinstance(fed, Mapping) or len(shapes(fed)) != len(shapes(xb)):
        return xb
    if not all(isinstance(part, torch.Tensor) for part in (*xb, *fed)):
        return xb
    parts = zip(xb, fed, strict=True)
    return tuple(given if _scaled(given, got) else typed(got, given) for given, got in parts)


def _scaled(given: torch.Tensor, got: torch.Tensor) -> bool:
    """Say whether *got* is *given*, each channel perhaps multiplied and moved."""
    if given.shape != got.shape:
        return given.ndim != got.ndim
    if not (given.is_floating_point() or got.is_floating_point()):
        return torch.equal(given.as_subclass(torch.Tensor), got.as_subclass(torch.Tensor))
    one, other = (_centered(part) for part in (given, got))
    norms = one.norm(dim=1), other.norm(dim=1)
    flat = [norm < _FLAT for norm in norms]
    alike = (one * other).sum(dim=1) >= _ALIKE * norms[0] * norms[1]
    return bool(((flat[0] & flat[1]) | (alike & ~flat[0] & ~flat[1])).all())


def _centered(part: torch.Tensor) -> torch.Tensor:
    """Return one row per channel of each item, or per column of a table, its mean 0."""
    plain = part.as_subclass(torch.Tensor).double()
    rows = plain.flatten(0, 1).flatten(1) if plain.ndim > 2 else plain.reshape(len(plain), -1).T  # noqa: PLR2004
    return rows - rows.mean(dim=1, keepdim=True)
