"""The names of the classes of each target."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastai.tabular.core import Tabular


def target_classes(dls: Any) -> list[list[Any] | None]:
    """
    Return the classes of each target of *dls*, or None where it has none.

    ``dls.vocab`` is of whatever has a vocabulary, texts that are inputs among it.
    """
    dataset = _attribute(_attribute(dls, "train"), "dataset")
    if isinstance(dataset, Tabular):
        return [_names(_attribute(dls, "vocab")) for _ in dataset.y_names]
    tls = _attribute(dataset, "tls")
    if tls is not None:
        n_inp = _attribute(dls, "n_inp") or len(tls) - 1
        return [_names(_attribute(tl, "vocab")) for tl in tls[n_inp:]]
    return [_names(_attribute(dls, "vocab"))]


def _names(vocab: Any) -> list[Any] | None:
    nested = isinstance(vocab, Sequence) or type(vocab).__name__ == "L"
    if vocab is None or (nested and vocab and not isinstance(vocab[0], str | int | float | bool)):
        return None  # several vocabularies, and nothing tells whose they are
    try:
        return list(vocab) or None
    except TypeError:
        return None


def _attribute(of: Any, name: str) -> Any:
    try:
        return getattr(of, name, None)
    except Exception:  # len() of loaders of other libraries, say
        return None
