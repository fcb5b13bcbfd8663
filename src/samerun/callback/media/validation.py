"""Validate some items as the learner does it, without a trace in it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from fastai.callback.progress import ProgressCallback
from fastai.callback.tracker import TrackerCallback
from fastcore.foundation import L

from samerun.callback.distributed import bare
from samerun.callback.media.watch import Record, Watch

# Loggers, what looks at metrics, and what makes processes wait for each other.
_LEFT_OUT = (ProgressCallback, TrackerCallback)
_LEFT_OUT_BY_NAME = ("DistributedTrainer",)


def validate(learn: Any, dl: Any, *, fit_ended: bool = False, **options: Any) -> Record | None:
    """
    Let *learn* validate the items of *dl* by its own means, and return what was seen.

    Callbacks that change batches and predictions take part, those that log do not; nothing
    is gathered from other processes, for one may call this alone.

    Args:
        learn: The learner.
        dl: The items.
        fit_ended: Let callbacks get ready for it first, as for `Learner.validate`: by now they
            have let go of what they had for the fit (mixed precision its autocast).
        **options: Those of `Watch`.
    """
    with _untouched(learn):
        learn.dl = dl
        ready = [cb for cb in learn.cbs if cb.run_valid] if fit_ended else []
        with _prepared(ready):
            watch = Watch(learn, **options).attach()
            learn._do_epoch_validate(dl=dl)
            return watch.detach()


@contextlib.contextmanager
def _prepared(callbacks: Sequence[Any]) -> Iterator[None]:
    """Let *callbacks* begin and end a fit around the block, and have the attributes of before."""
    kept = [dict(vars(callback)) for callback in callbacks]
    try:
        for callback in callbacks:
            callback("before_fit")
        yield
        for callback in callbacks:
            callback("after_fit")
    finally:
        for callback, attributes in zip(callbacks, kept, strict=True):
            vars(callback).clear()
            vars(callback).update(attributes)


@contextlib.contextmanager
def _untouched(learn: Any) -> Iterator[None]:
    """Restore attributes, callbacks, modes and buffers of the learner after the block."""
    kept, model = dict(vars(learn)), bare(learn.model)
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    modes = [(module, module.training) for module in model.modules()]
    learn.cbs = L(cb for cb in learn.cbs if _takes_part(cb))
    learn.model = model
    try:
        with torch.no_grad():
            yield
    finally:
        vars(learn).clear()
        vars(learn).update(kept)
        for module, mode in modes:
            module.training = mode
        _restore(model, buffers)


def _takes_part(callback: Any) -> bool:
    if getattr(callback, "remove_on_fetch", False) or isinstance(callback, _LEFT_OUT):
        return False
    return type(callback).__name__ not in _LEFT_OUT_BY_NAME


def _restore(model: torch.nn.Module, buffers: dict[str, torch.Tensor]) -> None:
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            if name in buffers and buffer.shape == buffers[name].shape:
                buffer.copy_(buffers[name])


def subset(dl: Any, indices: Sequence[int]) -> Any:
    """Return a data loader like *dl* that yields the items *indices*, in their order."""
    options: dict[str, Any] = {"shuffle": False, "drop_last": False, "num_workers": 0}
    return dl.new(get_idxs=_Indices(indices), n=len(indices), **options)


class _Indices:
    """Always return the same indices; a class, for lambdas cannot be pickled."""

    def __init__(self, indices: Sequence[int]) -> None:
        self._indices = list(indices)

    def __call__(self) -> list[int]:
        """Return them."""
        return list(self._indices)
