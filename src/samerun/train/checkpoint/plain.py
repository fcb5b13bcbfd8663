"""
Values that a checkpoint may hold: plain ones, and tensors.

Other values are excluded, so that reading a checkpoint (``torch.load(weights_only=True)``)
runs no code.
"""

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from fastcore.foundation import L


class NotPlain(TypeError):
    """A checkpoint can't hold this value."""


def plain(value: Any) -> Any:
    """
    Return *value* as None, bool, int, float, str, tensor, or list, tuple, dict of these.

    Tensors are copied to the host.

    Raises:
        NotPlain: The type is another one; the message is its name.
    """
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, torch.Tensor):
        return value.detach().as_subclass(torch.Tensor).to("cpu", copy=True)
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, PurePath):
        return {"__path__": str(value)}
    return _plain_container(value)


def _plain_container(value: Any) -> Any:
    if type(value) is tuple:
        return tuple(plain(item) for item in value)
    if type(value) in (list, L):
        return [plain(item) for item in value]
    if isinstance(value, Mapping):
        return {plain(key): plain(item) for key, item in value.items()}
    raise NotPlain(type(value).__qualname__)


def restored(value: Any, like: Any = None) -> Any:
    """Return a value from a checkpoint, with the list type and the device of *like*."""
    from pathlib import Path

    if isinstance(value, dict) and value.keys() == {"__path__"}:
        return Path(value["__path__"])
    if isinstance(value, list):
        return L(value) if isinstance(like, L) else [restored(item) for item in value]
    if isinstance(value, torch.Tensor) and isinstance(like, torch.Tensor):
        return value.to(like.device).clone()
    return value.clone() if isinstance(value, torch.Tensor) else value
