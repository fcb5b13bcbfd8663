"""Keep callbacks out of exports, so that these load where neither W&B nor this package is."""

from __future__ import annotations

import copy
import multiprocessing.context
from typing import Any

from fastai.callback.core import Callback


class StaysOut:
    """
    A callback that ``learn.export()`` leaves out: a callback of fastai that does nothing is there.

    A copy of the learner, and one that travels to a process that this one spawns, has it.
    """

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Return what pickle makes the callback from."""
        if multiprocessing.context.get_spawning_popen() is None:
            return Callback, ()
        return super().__reduce_ex__(protocol)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """Return a copy that is in no fit."""
        copied = memo[id(self)] = type(self).__new__(type(self))
        for name, value in self.__getstate__().items():
            vars(copied)[name] = copy.deepcopy(value, memo)
        copied.__dict__.update(self._outside())
        return copied

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what belongs to this fit."""
        return {k: v for k, v in vars(self).items() if k not in self._outside()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Be in no fit."""
        self.__dict__.update(state)
        self.__dict__.update(self._outside())

    def _outside(self) -> dict[str, Any]:
        """Return the attributes that belong to one process and one fit, as they are outside."""
        raise NotImplementedError
