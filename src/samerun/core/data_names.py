"""
Names of data folders: ``--data FOLDER`` is mounted as ``/data``, ``--data NAME=FOLDER`` below it.

A text before the first ``=`` is a name only if it could be one, so ``./a=b`` is a folder.
"""

import re
from collections.abc import Sequence

from samerun.core import contract
from samerun.core.errors import UsageError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
TARGET = re.compile(rf"{contract.DATA}(/{NAME.pattern})?")
"""A mount point of data in the container."""


def parse(texts: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """
    Return name and place of each ``--data``; the name is empty for the only one without.

    Raises:
        UsageError: A place is missing, a name is given twice, or one of several has none.
    """
    pairs = tuple(split(text) for text in texts)
    check([name for name, _ in pairs])
    return pairs


def split(text: str) -> tuple[str, str]:
    """
    Return the name, which may be empty, and the place.

    Raises:
        UsageError: There is no place.
    """
    name, equals, place = text.partition("=")
    if not equals or "/" in name or name.startswith("~"):
        name, place = "", text
    elif not NAME.fullmatch(name):
        raise UsageError(
            f"Invalid name in --data {text}: {name!r}.",
            "Use up to 64 letters, digits, - _ and dots, starting with a letter or digit; "
            "a folder with = in its name needs ./ before it.",
        )
    if not place.strip():
        raise UsageError(f"--data {text!r} names no folder.", "Give --data NAME=FOLDER.")
    return name, place


def check(names: Sequence[str]) -> None:
    """
    Refuse names of which two would be mounted in the same place.

    Raises:
        UsageError: A name is given twice, or one of several is missing.
    """
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise UsageError(
            f"The name {twice[0]!r} is given to two of --data.", "Give each another name."
        )
    if len(names) > 1 and "" in names:
        raise UsageError(
            "One of several --data has no name.",
            f"Give each one, as in --data photos=FOLDER; it is then {contract.DATA}/photos.",
        )


def target(name: str) -> str:
    """Return the mount point of the data *name* in the container."""
    return f"{contract.DATA}/{name}" if name else contract.DATA


def shown(name: str, place: str) -> str:
    """Return the value of ``--data`` for *place*."""
    unclear = not name and "=" in place.partition("/")[0]
    return f"{name}={place}" if name else f"./{place}" if unclear else place
