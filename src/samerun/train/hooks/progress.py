"""
Draw fastai's progress bars only if the host has a terminal, and no wider than it.

fastprogress 1.1 checks whether standard output *has* an ``isatty`` method, not what it
returns, and so fills logs with bars. A container has no terminal, so the host passes on
the width of the terminal. A bar that is too wide would be a new line at each update.
"""

import os
from typing import Any

from samerun.core import contract

# Narrower than the text beside the bar, it would be cut in any case.
LEAST = 60


def install(fastprogress: Any) -> None:
    """Switch off the bars of the module ``fastprogress.fastprogress`` without a terminal."""
    columns = os.environ.get(contract.ENV_PROGRESS, "")
    if not columns.isdecimal():
        fastprogress.NO_BAR = True
        # Every bar prints its fill character once, to test whether the terminal supports it.
        fastprogress.ConsoleProgressBar.fill = ""
    elif int(columns) > 1:  # Hosts of earlier versions pass 1 for a terminal of any width.
        # Some terminals wrap a line that fills them.
        fastprogress.MAX_COLS = max(LEAST, int(columns) - 1)
