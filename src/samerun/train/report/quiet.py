"""Do what training does not depend on, without ever harming it."""

import sys
from collections.abc import Callable
from typing import Any


def quietly(what: str, action: Callable[..., Any], *args: Any) -> Any:
    """Call *action*; if it fails, say so on stderr in one line and return None."""
    try:
        return action(*args)
    except Exception as error:  # noqa: BLE001 - logging never kills training
        sys.stderr.write(f"samerun: could not {what}: {error!r}; training goes on.\n")
        return None
