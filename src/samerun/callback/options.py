"""What may be given to the callback."""

from __future__ import annotations

from numbers import Integral
from typing import Any

_LOG = ("gradients", "parameters", "all", None)


def check_options(log: Any, **numbers: Any) -> None:
    """
    Refuse what can't be done, as the callback is made.

    Args:
        log: Its ``log``.
        **numbers: Its arguments that are whole numbers, by their names.

    Raises:
        ValueError: One of them is none of its choices; the message names these.
    """
    if log not in _LOG:
        choices = '"gradients", "parameters", "all" or None'
        msg = f"log={log!r} is none of the choices. Give {choices}."
        raise ValueError(msg)
    for name, number in numbers.items():
        least = 0 if name == "n_preds" else 1
        if number is None and name == "log_freq":
            continue
        if isinstance(number, bool) or not isinstance(number, Integral) or number < least:
            msg = f"{name}={number!r} is no such number. Give a whole number, {least} or more."
            raise ValueError(msg)
