"""
Leave out wandb's advice that does not apply to a run in a container.

The commands `wandb leet`, `wandb sync` and `wandb online` are not on the host, and the paths are
those of the container. The host prints its own lines, with `invoke sync`.
"""

import functools
import re
from collections.abc import Callable
from typing import Any

from samerun.train.report import reporting

# In the printed text, names of commands have marks of style around them.
ADVICE = ("`wandb leet`", "`wandb offline`", "You can sync this run", "wandb sync /")
ONLINE = re.compile(r" Run \S*`wandb online`.*")
LATER = re.compile(r"Use \S*`wandb sync`.*")


def install(wandb: Any) -> None:
    """Extend the printer of the module ``wandb``, in a run with a record."""
    if not reporting.is_recorded():
        return
    from wandb.errors import term
    from wandb.sdk.lib import printer

    cls = printer._PrinterTerm
    cls.display = _display(cls.display)
    term.termwarn = _warning(term.termwarn)


def _later(text: str) -> str:
    return LATER.sub("`invoke sync` uploads it later.", text)


def _warning(original: Callable[..., None]) -> Callable[..., None]:
    """Extend what prints wandb-core's own warnings."""

    @functools.wraps(original)
    def termwarn(string: str, *args: Any, **options: Any) -> None:
        original(_later(string), *args, **options)

    return termwarn


def _display(original: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(original)
    def display(self: Any, text: Any, **options: Any) -> None:
        lines = text.split("\n") if isinstance(text, str) else [str(line) for line in text]
        lines = list(map(_later, lines))
        kept = [line for line in lines if not any(words in line for words in ADVICE)]
        if kept or not lines:
            original(self, "\n".join(ONLINE.sub("", line) for line in kept), **options)

    return display
