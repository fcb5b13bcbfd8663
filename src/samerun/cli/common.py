"""Shared by all commands: the checkout, printing, and common options."""

import contextlib
from pathlib import Path
from typing import Annotated

from samerun.cli.typed import as_typed
from samerun.core.terminal import safe_lines
from samerun.host.checkout.project import DEFAULT_CUDA, Cuda, Project

# Options of several commands.
CudaOption = Annotated[Cuda, "CUDA release of this checkout's image: 13, 12 or none"]
Output = Annotated[str, "folder of the runs"]
KeyFile = Annotated[str | None, "file with the W&B key; default: WANDB_API_KEY, then ~/.netrc"]
RunName = Annotated[str, "the run's folder, or its name under runs/"]
Json = Annotated[bool, "print machine-readable JSON"]

_checkouts: list[Project] = []


def work_in(root: Path) -> None:
    """Set the checkout of all commands to *root*, which contains tasks.py."""
    _checkouts[:] = [Project(root=root)]


def checkout() -> Project:
    """Return the checkout of all commands."""
    return _checkouts[0]


def reference(image: str | None, cuda: Cuda = DEFAULT_CUDA) -> str:
    """Return *image*, or the tag of this checkout's image if it is None."""
    return image or checkout().tag(cuda)


def say(text: str = "") -> None:
    """
    Print without buffering, in order with the output of containers.

    Names, tags, metrics and failures may come from a hostile run, so control characters are
    escaped.
    """
    print(safe_lines(as_typed(text)), flush=True)  # noqa: T201 - the only place where the host prints


def say_if_possible(text: str = "") -> None:
    """Print, but ignore a closed or full output, which must not end a run."""
    with contextlib.suppress(OSError):
        say(text)
