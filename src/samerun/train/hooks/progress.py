"""
Draw fastai's progress bars only where somebody watches.

fastprogress 1.1 asks whether standard output *has* an ``isatty`` method, not what it
says, and so fills logs with bars. A container has no terminal; the host says whether
it has one.
"""

import os
from typing import Any

from samerun.core import contract


def install(fastprogress: Any) -> None:
    """Switch the bars of the module ``fastprogress.fastprogress`` off without a watcher."""
    if os.environ.get(contract.ENV_PROGRESS) != "1":
        fastprogress.NO_BAR = True
        # Every bar prints its fill character once, to see if the terminal knows it.
        fastprogress.ConsoleProgressBar.fill = ""
