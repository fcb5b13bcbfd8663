"""Where tables are printed: a terminal, or a pipe or file, which has no width."""

import sys
from typing import Any

from rich.console import Console

# Wide enough that digests are not wrapped, so that they can be copied.
WIDTH = 200


class Plain(Console):
    """A console for a pipe or file: lines end with their text, and have no colors."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Print without the blanks up to the width of the table."""
        with self.capture() as captured:
            super().print(*objects, **options)
        self.file.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))


def console() -> Console:
    """
    Return the console of standard output.

    Text is printed as it is: names from runs and images may hold rich's markup, which could
    print links, or end the command.
    """
    if sys.stdout.isatty():
        return Console(highlight=False, markup=False, emoji=False)
    return Plain(highlight=False, markup=False, emoji=False, width=WIDTH, no_color=True)
