"""What every verb uses: the checkout, how to print, and how errors become exit codes."""

import os
import signal
import sys
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

from invoke.exceptions import Exit

from samerun.core.errors import SamerunError, UsageError
from samerun.host.checkout.project import CUDA_VERSIONS, Project

_checkouts: list[Project] = []


def work_in(root: Path) -> None:
    """Let the verbs work on the checkout *root*: that of the tasks.py which lists them."""
    _checkouts[:] = [Project(root=root)]


def checkout() -> Project:
    """Return the checkout that the verbs work on."""
    return _checkouts[0]


def say(text: str = "") -> None:
    """Print at once, in order with what containers print."""
    print(text, flush=True)  # noqa: T201 - the one place where the host side prints


def reports_errors(verb: Callable[..., None]) -> Callable[..., None]:
    """Show our errors as text, and exit with their code."""

    @wraps(verb)
    def inner(*args: Any, **kwargs: Any) -> None:
        try:
            verb(*args, **kwargs)
        except SamerunError as error:
            raise Exit(f"{type(error).__name__}: {error}", error.exit_code) from error
        except BrokenPipeError as error:
            # `invoke … | head`: the reader has gone, and the rest has nowhere to go.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise Exit(code=128 + signal.SIGPIPE) from error
        except KeyboardInterrupt as error:
            raise Exit("Interrupted.", 130) from error

    return inner


CHOICES = {"cuda": CUDA_VERSIONS, "base": ("auto", "pulled", "bootstrapped")}


def split_remainder(argv: Sequence[str]) -> tuple[str, ...]:
    """
    Return what stands after ``--`` on the command line, each argument as it was.

    Invoke joins the remainder into one string and so loses the quoting.
    """
    arguments = list(argv)
    return tuple(arguments[arguments.index("--") + 1 :]) if "--" in arguments else ()


def check_choices(**given: str) -> None:
    """Refuse a value that is none of the option's."""
    for name, value in given.items():
        if value not in CHOICES[name]:
            raise UsageError(
                f"--{name} {value!r} is not possible.", f"Use one of {', '.join(CHOICES[name])}."
            )
