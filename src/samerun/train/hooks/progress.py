"""
Draw fastai's progress bars only if the host has a terminal.

fastprogress 1.1 checks whether standard output *has* an ``isatty`` method, not what it
returns, and so fills logs with bars. A container has no terminal, so the host passes on
whether it has one.
"""

import os
from typing import Any

from samerun.core import contract


def install(fastprogress: Any) -> None:
    """Switch off the bars of the module ``fastprogress.fastprogress`` without a terminal."""
    if os.environ.get(contract.ENV_PROGRESS) != "1":
        fastprogress.NO_BAR = True
        # Every bar prints its fill character once, to test whether the terminal supports it.
        fastprogress.ConsoleProgressBar.fill = ""
