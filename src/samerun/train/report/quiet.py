"""Run optional actions, whose failure must not affect the training."""

import sys
from collections.abc import Callable
from typing import Any


def quietly(what: str, action: Callable[..., Any], *args: Any) -> Any:
    """Call *action*; if it fails, print one line to stderr and return None."""
    try:
        return action(*args)
    except Exception as error:  # noqa: BLE001 - logging never kills training
        sys.stderr.write(f"samerun: could not {what}: {error!r}; training continues.\n")
        return None
