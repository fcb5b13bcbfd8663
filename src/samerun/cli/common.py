"""What every verb uses: the checkout, how to print, and the help of options that many have."""

import contextlib
from pathlib import Path
from typing import Annotated

from samerun.core.terminal import safe_lines
from samerun.host.checkout.project import DEFAULT_CUDA, Cuda, Project
from samerun.host.checkout.project import tag as tag_of

# Options that several verbs have.
CudaOption = Annotated[Cuda, "CUDA release of this checkout's image: 13, 12 or none"]
Output = Annotated[str, "folder of the runs"]
KeyFile = Annotated[str | None, "file with the W&B key; default: WANDB_API_KEY, then ~/.netrc"]
RunName = Annotated[str, "the run's folder, or its name under runs/"]
Json = Annotated[bool, "print JSON, for machines"]

_checkouts: list[Project] = []


def work_in(root: Path) -> None:
    """Let the verbs work on the checkout *root*: that of the tasks.py which lists them."""
    _checkouts[:] = [Project(root=root)]


def checkout() -> Project:
    """Return the checkout that the verbs work on."""
    return _checkouts[0]


def reference(image: str | None, cuda: Cuda = DEFAULT_CUDA) -> str:
    """Return *image*, or the tag of this checkout's image where none is given."""
    return image or tag_of(cuda)


def say(text: str = "") -> None:
    """
    Print at once, in order with what containers print.

    Names, tags, metrics and failures may come from a hostile run: no control character of
    theirs reaches the terminal.
    """
    print(safe_lines(text), flush=True)  # noqa: T201 - the one place where the host side prints


def say_if_possible(text: str = "") -> None:
    """Print while a run goes on: a terminal that has gone, or is full, is no reason to end it."""
    with contextlib.suppress(OSError):
        say(text)
