"""
What a script or callback changes of a learner during a fit, besides its weights.

A new start of the script begins the fit with the learner as it was then. Plain values that were
changed meanwhile (frozen layers, ``shuffle``, a dropout's rate) are in the checkpoint and are
restored. Of objects (loaders, loss, callbacks) a checkpoint can only hold that they are others now,
and a resume is refused with their names.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from fastai.torch_core import get_model

from samerun.train.checkpoint.attributes import by_name
from samerun.train.checkpoint.plain import plain

Values = dict[str, dict[str, Any]]
# Attributes by which loaders and datasets get at their items.
OBJECTS = (
    *("dataset", "sampler", "batch_sampler", "collate_fn", "wgts", "sort_func"),
    *("items", "tls", "tensors", "data", "targets", "samples", "transform", "target_transform"),
)
PIPELINES = ("after_item", "before_batch", "after_batch")
LEARNER = ("lr", "wd", "moms", "wd_bn_bias", "train_bn")
FLAGS = ("run", "run_train", "run_valid", "order")
# Larger tensors, such as kept activations, are not state.
LARGEST_BYTES, LONGEST = 4 * 2**20, 64


class Observed:
    """A learner at one moment: its objects, and the plain values in them."""

    def __init__(self, learn: Any) -> None:
        self.objects = dict(_objects(learn))
        self.callbacks = _callbacks(learn)
        self.values = _values(learn)


class Changes:
    """What has changed in one fit, since *entry*, the learner before it."""

    def __init__(self, entry: Observed) -> None:
        self._entry = self._begin = self._batches = entry
        self._earlier: tuple[str, ...] = ()

    def begin_fit(self, learn: Any) -> None:
        """Observe the learner at the start of the fit, after all callbacks have set up."""
        self._begin = Observed(learn)

    def begin_batches(self, learn: Any) -> None:
        """Observe the learner before the first batch of an epoch: callbacks may set up here too."""
        self._batches = Observed(learn)

    def end_epoch(self, learn: Any) -> None:
        """Note what the next epoch starts with, and a new start of the script would not."""
        self._earlier = _changed(Observed(learn), self._begin)

    def in_epoch(self, learn: Any) -> dict[str, Any]:
        """Return the changes for a checkpoint within an epoch."""
        now = Observed(learn)
        return {
            "changed": sorted({*self._earlier, *_changed(now, self._batches)}),
            "values": _different(now.values, self._begin.values),
            "epoch_values": _different(self._batches.values, self._begin.values),
        }

    def after_epoch(self, learn: Any) -> dict[str, Any]:
        """Return the changes for a checkpoint between two epochs."""
        values = _different(Observed(learn).values, self._begin.values)
        return {"changed": list(self._earlier), "values": values, "epoch_values": values}

    def after_fit(self, learn: Any) -> dict[str, Any]:
        """
        Return the changes for the end of the fit, from which a new start goes on without it.

        What callbacks have set up for the fit, or have undone already, is no change.
        """
        now = Observed(learn)
        values = _different(now.values, self._entry.values)
        changed = _changed(now, self._begin, self._entry)
        return {"changed": list(changed), "values": values, "epoch_values": values}


def restore(learn: Any, values: Mapping[str, Mapping[str, Any]]) -> None:
    """Set the plain values in *learn* to those of a checkpoint."""
    holders = dict(_holders(learn))
    device = next((p.device for p in get_model(learn.model).parameters()), torch.device("cpu"))
    for name, attributes in values.items():
        thing = holders.get(name)
        for attribute, value in attributes.items() if thing is not None else ():
            _set(thing, attribute, _moved(value, device))


def _set(thing: Any, attribute: str, value: Any) -> None:
    if attribute == "has_grad":
        # fastai's optimizer still steps a frozen parameter that once had a gradient: by zero.
        thing.grad = torch.zeros_like(thing) if value and thing.grad is None else thing.grad
    elif attribute == "requires_grad":
        thing.requires_grad_(value)
    elif attribute in (_own(thing, "_buffers") or ()):
        thing._buffers[attribute] = value
    else:  # Bypasses fastai's and torch's __setattr__.
        vars(thing)[attribute] = value


def _moved(value: Any, device: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.to(device, copy=True)
    if isinstance(value, list | tuple):
        return type(value)(_moved(item, device) for item in value)
    return value


def _changed(now: Observed, *before: Observed) -> tuple[str, ...]:
    """Return the names of objects that are others than in each of *before*."""
    names = [
        name
        for name, thing in now.objects.items()
        if not any(_same(thing, one.objects.get(name)) for one in before)
    ]
    first, known = before[0], [cb for one in before for cb in one.callbacks]
    added = [cb for cb in now.callbacks if not _among(cb, known)]
    lost = [
        cb
        for cb in first.callbacks
        if not _among(cb, now.callbacks) and all(_among(cb, one.callbacks) for one in before)
    ]
    # With loaders that are others, their parts are too.
    names = [name for name in names if not any(name.startswith(f"{one}.") for one in names)]
    names += [f"callback {cb.name} (added)" for cb in added]
    return (*names, *(f"callback {cb.name} (removed)" for cb in lost))


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(a is b for a, b in zip(one, other, strict=True))
    return one is other


def _among(thing: Any, things: Any) -> bool:
    return any(thing is one for one in things)


def _different(now: Values, before: Values) -> Values:
    """Return the values in *now* that *before* does not have."""
    different = {}
    for name, attributes in now.items():
        old = before.get(name, {})
        changed = {a: v for a, v in attributes.items() if a not in old or not _equal(v, old[a])}
        if changed:
            different[name] = changed
    return different


def _equal(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_equal, one, other))
    return bool(one == other) or repr(one) == repr(other)  # Not equal to itself: NaN.


def _callbacks(learn: Any) -> list[Any]:
    own = "samerun.train."
    return [cb for cb in learn.cbs if not type(cb).__module__.startswith(own)]


def _objects(learn: Any) -> Iterator[tuple[str, Any]]:
    """Yield the names of objects as a user knows them, and the objects."""
    yield "learn.model", get_model(learn.model)
    yield "learn.opt", learn.opt
    yield "learn.metrics", tuple(learn.metrics)
    yield "learn.loss_func", learn.loss_func
    yield "learn.loss_func.func", _own(learn.loss_func, "func")
    yield "learn.dls", learn.dls
    for name, loader in _loaders(learn):
        yield name, loader
        for label, part in _parts(name, loader):
            yield from ((f"{label}.{key}", _own(part, key)) for key in OBJECTS if _has(part, key))
        for pipeline in PIPELINES:
            yield f"{name}.{pipeline}", tuple(_transforms(loader, pipeline))


def _loaders(learn: Any) -> Iterator[tuple[str, Any]]:
    """Yield all loaders; one that wraps another, as distributed ones do, before that."""
    names = ("train", "valid")
    for number, loader in enumerate(getattr(learn.dls, "loaders", ())):
        name = f"learn.dls.{names[number]}" if number < len(names) else f"learn.dls[{number}]"
        inner = loader
        while inner is not None:
            yield name, inner
            name, inner = f"{name}.dl", _own(inner, "dl")


def _parts(name: str, loader: Any) -> Iterator[tuple[str, Any]]:
    """Yield *loader* and what its items come from."""
    dataset = _own(loader, "dataset")
    yield from ((name, loader), (f"{name}.dataset", dataset))
    for number, part in enumerate(_own(dataset, "tls") or ()):
        yield f"{name}.dataset.tls[{number}]", part


def _transforms(loader: Any, pipeline: str) -> list[Any]:
    return list(getattr(_own(loader, pipeline), "fs", ()))


def _has(thing: Any, name: str) -> bool:
    return _own(thing, name) is not None


def _own(thing: Any, name: str) -> Any:
    """Return an attribute of *thing* itself, not one of what it stands for."""
    return getattr(thing, "__dict__", {}).get(name)


def _holders(learn: Any) -> Iterator[tuple[str, Any]]:
    """Yield the things with plain values, and their names."""
    yield from _model_holders(learn)
    yield from ((f"callback {name}", cb) for name, cb in by_name(_callbacks(learn)))
    for name, loader in _loaders(learn):
        yield name, loader
        yield f"{name}.dataset", _own(loader, "dataset")
        for pipeline in PIPELINES:
            for number, transform in enumerate(_transforms(loader, pipeline)):
                yield f"{name}.{pipeline}[{number}]", transform


def _model_holders(learn: Any) -> Iterator[tuple[str, Any]]:
    yield "learn", learn
    yield "opt", learn.opt
    model, loss = get_model(learn.model), learn.loss_func
    yield from ((f"parameter {name}", parameter) for name, parameter in model.named_parameters())
    yield from ((f"model {name}", module) for name, module in model.named_modules())
    for name, thing in (("loss", loss), ("loss.func", _own(loss, "func"))):
        yield name, thing
        inner = thing.named_modules() if isinstance(thing, torch.nn.Module) else ()
        yield from ((f"{name} {key}", module) for key, module in inner if key)


def _values(learn: Any) -> Values:
    return {name: found for name, thing in _holders(learn) if (found := _plain(name, thing))}


def _plain(name: str, thing: Any) -> dict[str, Any]:
    """Return the plain attributes of the thing that is called *name*."""
    kind = name.partition(" ")[0]
    if kind == "parameter":
        return {"requires_grad": thing.requires_grad, "has_grad": thing.grad is not None}
    own = dict(getattr(thing, "__dict__", {}))
    if kind.startswith("loss"):  # The model's are among its weights.
        own |= _own(thing, "_buffers") or {}
    only = {"learn": LEARNER, "callback": FLAGS}.get(name if name == "learn" else kind)
    # Items, which loaders and datasets have, are no state.
    may_hold = _is_state if kind == "model" or kind.startswith("loss") else _is_scalar
    return {
        key: plain(value)
        for key, value in own.items()
        if (key in only if only else not key.startswith("_") and key != "training")
        and may_hold(value)
    }


def _is_state(value: Any) -> bool:
    """Whether *value* is a plain one, a tensor, or a short list or tuple of these."""
    if isinstance(value, torch.Tensor):
        return value.nbytes <= LARGEST_BYTES
    if type(value) in (list, tuple):
        return len(value) <= LONGEST and all(map(_is_state, value))
    return _is_scalar(value)


def _is_scalar(value: Any) -> bool:
    if type(value) is tuple:
        return len(value) <= LONGEST and all(map(_is_scalar, value))
    return value is None or type(value) in (bool, int, float, str)
