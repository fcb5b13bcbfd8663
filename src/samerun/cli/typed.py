"""Commands in messages, as the user types them: `invoke train` in a clone, or `samerun train`."""

import re
import sys
from pathlib import Path

# A command in backquotes, or one that is alone at the start or end of a line, as in a summary.
_COMMAND = re.compile(r"(`|(?:^|  ))invoke (?=(?:--)?[a-z])", re.MULTILINE)


def as_typed(text: str) -> str:
    """Return *text* with its commands for the program that is running."""
    if Path(sys.argv[0]).stem != "samerun":
        return text
    return _COMMAND.sub(r"\1samerun ", text)
