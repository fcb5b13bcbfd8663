# ruff: noqa: PLR0911 - one return for each kind of value
"""Describe a learner as JSON, whatever objects it holds."""

from __future__ import annotations

import contextlib
import functools
import inspect
import itertools
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import Enum
from pathlib import PurePath
from typing import Any

import torch
from fastai.callback.core import Callback
from fasttransform.transform import Transform

# Deep enough for the augmentations of a pipeline, short enough to be read.
_DEPTH, _ITEMS, _CHARACTERS = 5, 32, 500
_OF_LEARNER = (
    *("loss_func", "opt_func", "lr", "path", "model_dir", "splitter"),
    *("wd", "wd_bn_bias", "train_bn", "moms"),
)
# What a learner keeps of its loop; the rest of its attributes are arguments, such as those that
# vision_learner keeps: arch, pretrained, n_out, normalize.
_OF_THE_LOOP = (
    *("dls", "model", "opt", "cbs", "lock", "training", "create_mbar", "logger", "default_cbs"),
    *("n_epoch", "epoch", "iter", "n_iter", "train_iter", "pct_train", "final_record"),
    *("dl", "xb", "yb", "pred", "loss", "loss_grad", "smooth_loss", "metrics"),
)
_SECRET = re.compile(
    r"pass(word|wd|phrase)|secret|token$|(api|access|private)_?key|credential|auth|cookie",
    re.IGNORECASE,
)
_HIDDEN = "***"
# What gives itself away in a text: user:password@ in front of a host name, as in addresses of
# databases and proxies; password=... in a query; keys that begin as services' keys do.
_GIVEN_AWAY = (
    (re.compile(r"(?<=://)[^/\s@]+@"), f"{_HIDDEN}@"),
    (
        re.compile(r"((?:key|token|secret|password|signature)=)[^&\s]+", re.IGNORECASE),
        rf"\1{_HIDDEN}",
    ),
    (re.compile(r"\b(hf_|sk-|ghp_|github_pat_|AKIA|xox[bp]-)[A-Za-z0-9_-]{12,}"), _HIDDEN),
)
_SHORTEST_SECRET = 8


# Described elsewhere, or of no use without their objects.
_LEFT_OUT = ("self", "learn", "dls", "model", "run")


def describe_learner(learn: Any) -> dict[str, Any]:
    """
    Return what matters about *learn* as a JSON-safe dictionary.

    The keys of fastai's ``WandbCallback`` keep their names. A part that cannot be
    described is left out; nothing is raised, and no batch is drawn.
    """
    parts: dict[str, Callable[[], Any]] = {
        "Learner": lambda: _learner(learn),
        "n_epoch": lambda: learn.n_epoch,
        "n_inp": lambda: learn.dls.train.n_inp,
        "batch size": lambda: learn.dls.bs,
        "batch per epoch": lambda: len(learn.dls.train),
        "train items": lambda: len(learn.dls.train_ds),
        "valid items": lambda: len(learn.dls.valid_ds),
        "model parameters": lambda: sum(p.numel() for p in learn.model.parameters()),
        "trainable parameters": lambda: _trainable(learn.model),
        "device": lambda: torch.device(learn.dls.device).type,
        "frozen": lambda: bool(learn.opt.frozen_idx),
        "frozen idx": lambda: learn.opt.frozen_idx,
        "optimizer": lambda: _optimizer(learn.opt),
        "dataset.tfms": lambda: _pipelines(learn.dls.dataset.tfms),
        "dls.after_item": lambda: _pipeline(learn.dls.after_item),
        "dls.before_batch": lambda: _pipeline(learn.dls.before_batch),
        "dls.after_batch": lambda: _pipeline(learn.dls.after_batch),
    }
    found: dict[str, Any] = {}
    with contextlib.suppress(Exception):
        found.update(_callbacks(learn))
    for key, part in parts.items():
        with contextlib.suppress(Exception):
            found[key] = describe(part())
    return found


def describe_batch(xb: Iterable[Any]) -> dict[str, int]:
    """
    Return the sizes of the inputs of one batch, under the keys that fastai gives them.

    Those of an input of several parts, a pair or a dictionary, have the part in their key.
    """
    sizes: dict[str, int] = {}
    for n, x in enumerate(xb, 1):
        for name, part in _input_parts(f"input {n}", x):
            shape = getattr(part, "shape", ())
            sizes |= {f"{name} dim {i}": int(size) for i, size in enumerate(shape, 1)}
    return sizes


def _input_parts(name: str, x: Any) -> Iterator[tuple[str, Any]]:
    parts: Iterable[tuple[Any, Any]] = ()
    if isinstance(x, Mapping):
        parts = x.items()
    elif isinstance(x, tuple | list):
        parts = enumerate(x, 1)
    else:
        yield name, x
    for key, part in itertools.islice(parts, _ITEMS):
        yield from _input_parts(f"{name} {_key(key)}", part)


def describe(value: Any, depth: int = _DEPTH) -> Any:
    """
    Return *value* as numbers, strings, lists and dictionaries, at most *depth* levels of them.

    An object becomes its class and the arguments it was made with, never its address or
    its ``repr``. Values whose names look like secrets become ``"***"``.
    """
    try:
        return _describe(value, depth)
    except Exception:
        return type(value).__name__


def _describe(value: Any, depth: int) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, int | float):
        return _number(value)
    if isinstance(value, str | PurePath):
        return _text(str(value))
    if isinstance(value, torch.Tensor) or hasattr(value, "__array__"):
        return _array(value)
    if depth <= 0:
        return _name(value)
    return _nested(value, depth - 1)


def _nested(value: Any, depth: int) -> Any:
    if value is os.environ:
        return "environ"
    if isinstance(value, Mapping):
        items = itertools.islice(value.items(), _ITEMS)
        return {_key(k): _hidden(k, v, depth) for k, v in items}
    if isinstance(value, functools.partial):
        return {"_name": _name(value.func), **_nested(value.keywords, depth)}
    if type(value) is Transform:
        return _name(value)
    if isinstance(value, torch.nn.Module | type) or inspect.isroutine(value):
        made_with = _enclosed(value)
        inner = {k: _hidden(k, v, depth) for k, v in made_with.items()}
        return {"_name": _name(value), **inner} if inner else _name(value)
    if isinstance(value, set | frozenset):
        return sorted(str(describe(v, depth)) for v in value)[:_ITEMS]
    if isinstance(value, slice):
        return [describe(v, depth) for v in (value.start, value.stop, value.step)]
    if isinstance(value, list | tuple) or type(value).__name__ == "L":
        return [describe(v, depth) for v in itertools.islice(value, _ITEMS)]
    arguments = {k: _hidden(k, v, depth) for k, v in _arguments(value)}
    return {"_name": _name(value), **arguments} if arguments else _name(value)


def _hidden(key: Any, value: Any, depth: int) -> Any:
    return _HIDDEN if _SECRET.search(_key(key)) else describe(value, depth)


def _key(key: Any) -> str:
    # str() of an object would be its address.
    return str(key) if isinstance(key, str | int | float | tuple) else str(describe(key, 0))


def _text(text: str) -> str:
    for pattern, instead in _GIVEN_AWAY:
        text = pattern.sub(instead, text)
    for name, value in os.environ.items():
        if _SECRET.search(name) and len(value) >= _SHORTEST_SECRET:
            text = text.replace(value, _HIDDEN)
    return text[:_CHARACTERS]


def _number(value: float) -> Any:
    # NaN and infinity are no JSON.
    return value if isinstance(value, int) or math.isfinite(value) else str(value)


def _array(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
    shape = tuple(getattr(value, "shape", ()))
    if not shape:
        return describe(value.item(), 0) if hasattr(value, "item") else type(value).__name__
    if math.prod(shape) <= _ITEMS and hasattr(value, "tolist"):
        return describe(value.squeeze().tolist())  # a normalization, or the names of classes
    return f"{type(value).__name__} of shape {list(shape)}"


def _name(value: Any) -> str:
    if type(value) is Transform:
        return str(value.name)  # of the function that it wraps
    named = value if hasattr(value, "__name__") else type(value)
    return str(getattr(named, "__qualname__", named.__name__))


def _enclosed(function: Any) -> dict[str, Any]:
    """Return what one of fastai's functions was made with, such as the parts of a schedule."""
    code, cells = getattr(function, "__code__", None), getattr(function, "__closure__", None)
    if not code or not cells or not str(function.__module__).startswith("fastai."):
        return {}
    return dict(zip(code.co_freevars, [cell.cell_contents for cell in cells], strict=True))


def _optimizer(opt: Any) -> dict[str, Any]:
    """Return steps and hyper-parameters of an optimizer, the latter per group."""
    groups = [dict(group) for group in opt.hypers]
    steps = [_name(getattr(cb, "func", cb)) for cb in getattr(opt, "cbs", ())]
    return {"_name": type(opt).__name__, "steps": steps, "groups": groups}


def _arguments(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the arguments of the constructor that *value* kept under their own names."""
    kept = getattr(value, "__dict__", {})
    with contextlib.suppress(Exception):
        for name in inspect.signature(type(value).__init__).parameters:
            if name in kept and name not in _LEFT_OUT:
                yield name, kept[name]


def _learner(learn: Any) -> dict[str, Any]:
    described = {"_name": type(learn).__name__, "model": _name(learn.model)}
    with contextlib.suppress(Exception):
        described["metrics"] = describe(learn.metrics)
    # Not by getattr: the learner hands names that it does not know over to the model.
    kept = {name: value for name, value in vars(learn).items() if _is_made_with(name, value)}
    for name in [*_OF_LEARNER, *(name for name in kept if name not in _OF_LEARNER)]:
        if name in kept:
            described[name] = _hidden(name, kept[name], _DEPTH - 1)
    return described


def _is_made_with(name: str, value: Any) -> bool:
    """Say whether an attribute of a learner is what it was made with, by fastai or by hand."""
    if name.startswith("_") or name in _OF_THE_LOOP:
        return False
    return not isinstance(value, Callback | torch.Tensor | torch.nn.Module) or name == "loss_func"


def _callbacks(learn: Any) -> Iterator[tuple[str, Any]]:
    for callback in learn.cbs:
        described = describe(callback)
        yield type(callback).__name__, described if isinstance(described, dict) else True


def _trainable(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def _pipeline(pipeline: Any) -> list[Any]:
    return [describe(step) for step in getattr(pipeline, "fs", pipeline)]


def _pipelines(pipelines: Any) -> list[Any]:
    return [_pipeline(pipeline) for pipeline in pipelines]
