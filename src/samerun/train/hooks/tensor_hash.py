"""Hashes of a training's results, independent of any file format."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any


def hash_weights(state: Mapping[str, Any]) -> str:
    """
    Return the SHA-256 of a model's state.

    It covers every entry of ``state_dict()``, sorted by name: name, dtype, shape, then the
    elements' bytes in C order (little-endian). For entries that are not tensors, it covers
    their ``repr``.
    """
    digest = hashlib.sha256()
    for name in sorted(state):
        _add(digest, name, state[name])
    return digest.hexdigest()


def hash_tensor(name: str, value: Any) -> str:
    """Return the SHA-256 of one entry of a model's state, encoded as in `hash_weights`."""
    digest = hashlib.sha256()
    _add(digest, name, value)
    return digest.hexdigest()


def _add(digest: Any, name: str, value: Any) -> None:
    import torch

    if not isinstance(value, torch.Tensor):
        digest.update(f"{name}={value!r}\n".encode())
        return
    tensor = value.detach().cpu().contiguous()
    digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}\n".encode())
    digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())


def hash_history(epochs: Sequence[Mapping[str, float | None]]) -> str:
    """Return the SHA-256 of all epochs' metrics, written exactly (``float.hex``)."""
    exact = [
        {k: v.hex() if isinstance(v, float) else v for k, v in epoch.items()} for epoch in epochs
    ]
    return hashlib.sha256(json.dumps(exact, sort_keys=True).encode()).hexdigest()
