"""
Values that a checkpoint may hold: plain ones, and tensors.

Other values are excluded, so that reading a checkpoint (``torch.load(weights_only=True)``)
runs no code. Tensors are stored on the host; one that was not on the model's device, e.g. a
loss on the CPU during a training on a GPU, is stored with the name of its device.
"""

from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch
from fastcore.foundation import L

_PATH, _DEVICE, _TENSOR = "__path__", "__device__", "__tensor__"


class NotPlain(TypeError):
    """A checkpoint can't hold this value."""


def plain(value: Any, home: torch.device | None = None) -> Any:
    """
    Return *value* as None, bool, int, float, str, tensor, or list, tuple, dict of these.

    Tensors are copied to the host. *home* is the model's device; if it is None, the tensors'
    devices are not stored.

    Raises:
        NotPlain: The type is another one; the message is its name.
    """
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, torch.Tensor):
        return _plain_tensor(value, home)
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, PurePath):
        return {_PATH: str(value)}
    return _plain_container(value, home)


def _plain_tensor(value: torch.Tensor, home: torch.device | None) -> Any:
    copy = value.detach().as_subclass(torch.Tensor).to("cpu", copy=True)
    # Without an index, because each process has its own GPU and may get another one next time.
    elsewhere = home is not None and value.device != home
    return {_DEVICE: str(value.device), _TENSOR: copy} if elsewhere else copy


def _plain_container(value: Any, home: torch.device | None) -> Any:
    if type(value) is tuple:
        return tuple(plain(item, home) for item in value)
    if type(value) in (list, L):
        return [plain(item, home) for item in value]
    if isinstance(value, Mapping):
        return {plain(key): plain(item, home) for key, item in value.items()}
    raise NotPlain(type(value).__qualname__)


def restored(value: Any, home: torch.device, like: Any = None) -> Any:
    """
    Return a copy of a value from a checkpoint, with its tensors on the devices they were on.

    *home* is the model's device now. *like* is the current value: a list keeps its type, and a
    parameter remains the same object, which others may hold, too.
    """
    if isinstance(value, torch.Tensor):
        return _restored_tensor(value, home, like)
    if isinstance(value, list | tuple):
        items = [restored(v, home, old) for v, old in zip(value, _items(like, value), strict=True)]
        kind = L if isinstance(like, L) and isinstance(value, list) else type(value)
        return kind(items)
    return _restored_dict(value, home, like) if isinstance(value, dict) else value


def _restored_dict(value: dict[Any, Any], home: torch.device, like: Any) -> Any:
    if value.keys() == {_PATH}:
        return Path(value[_PATH])
    if value.keys() == {_DEVICE, _TENSOR}:
        return _restored_tensor(value[_TENSOR], torch.device(value[_DEVICE]), like)
    olds = like if isinstance(like, Mapping) else {}
    return {key: restored(item, home, olds.get(key)) for key, item in value.items()}


def _restored_tensor(value: torch.Tensor, device: torch.device, like: Any) -> torch.Tensor:
    if isinstance(like, torch.nn.Parameter) and like.shape == value.shape:
        like.data.copy_(value)
        return like
    return value.to(device, copy=True)


def _items(like: Any, value: Any) -> Any:
    fits = isinstance(like, list | tuple | L) and len(like) == len(value)
    return like if fits else [None] * len(value)
