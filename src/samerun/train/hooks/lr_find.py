"""
Let `lr_find` of several processes restore the model in all of them.

fastai saves the model in the main process, to a folder with a random name, and each process looks
for it under its own name. So only the main process restored its model, and waited for the
others in a barrier that they never reached.
"""

import functools
from collections.abc import Callable
from typing import Any

from torch import distributed


class _CleanedTogether:
    """A temporary folder that is removed when all processes have read what is in it."""

    def __init__(self, folder: Any) -> None:
        self._folder = folder
        self.name = folder.name

    def cleanup(self) -> None:
        """Wait for the other processes, then remove the folder."""
        distributed.barrier()
        self._folder.cleanup()


def install(module: Any) -> None:
    """Extend the ``LRFinder`` of the module ``fastai.callback.schedule``."""
    module.LRFinder.before_fit = _before_fit(module.LRFinder.before_fit)


def _before_fit(original: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(original)
    def before_fit(self: Any) -> None:
        original(self)
        if not distributed.is_initialized() or distributed.get_world_size() == 1:
            return
        # The main process has saved the model before the others get this name.
        name = [self.tmp_p]
        distributed.broadcast_object_list(name)
        self.tmp_p = name[0]
        self.tmp_d = _CleanedTogether(self.tmp_d)

    return before_fit
