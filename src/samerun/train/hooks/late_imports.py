"""
Import scikit-learn and scipy.stats when they are first used.

fastai imports them with itself, for metrics that most trainings do not use and for one splitter.
That takes a tenth of the time of its import, in each process.
"""

import contextlib
import importlib
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

_LATE = ("sklearn", "sklearn.metrics", "sklearn.model_selection", "scipy.stats")
_FUNCTIONS = (("sklearn.model_selection", "train_test_split"),)


class _Module(ModuleType):
    """Stands for a module until one of its attributes is asked for."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(importlib.import_module(self.__name__), name)


class _Function:
    """Stands for a function of a module until it is called."""

    def __init__(self, module: str, name: str) -> None:
        self._place = (module, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        module, name = self._place
        return getattr(importlib.import_module(module), name)(*args, **kwargs)

    def __reduce__(self) -> Any:
        # Where it is unpickled, this module may not be there.
        from pydoc import locate

        return locate, (".".join(self._place),)


@contextlib.contextmanager
def stand_ins() -> Iterator[None]:
    """Let modules that are imported inside get stand-ins for those that are not loaded yet."""
    added = {name: _Module(name) for name in _LATE if name not in sys.modules}
    for name, module in added.items():
        parent = added.get(name.rpartition(".")[0])
        if parent is not None:
            vars(parent)[name.rpartition(".")[2]] = module
    for name, function in _FUNCTIONS:
        if name in added:
            vars(added[name])[function] = _Function(name, function)
    sys.modules.update(added)
    try:
        yield
    finally:
        for name, module in added.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]
