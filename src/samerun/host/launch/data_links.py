"""
`--follow-links`: mount what links out of a data folder lead to, where they lead in the container.

A link is not changed and not mounted over. Its target is mounted at the path that the link has
there, so all programs see the same as on the host.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from samerun.core import tree
from samerun.core.errors import DataError
from samerun.core.record import Mount
from samerun.core.tree import Leaving, Tree

# Folders of the image, or of the run, that a mount would hide or change.
TAKEN = (
    *("/bin", "/boot", "/code", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/opt"),
    *("/output", "/proc", "/root", "/run", "/sbin", "/sys", "/tmp/home", "/usr", "/var"),  # noqa: S108
)
# More mounts would take seconds to set up, and the command line has an end.
MOST = 256
_COPY = (
    "Replace the link by a copy (`cp -rL`), or give the folder to which it leads as well, with "
    "the name by which it leads there: --data NAME=FOLDER."
)


def mounts(found: Tree, places: Mapping[str, Path]) -> tuple[Mount, ...]:
    """
    Return the mounts that the links out of *found* need; *places* are mounted already.

    Raises:
        DataError: A link leads nowhere, into the system, or to a path that the image needs, or
            there are too many.
    """
    made = tuple(dict.fromkeys(_mounts(found, places)))
    if len(made) > MOST:
        raise DataError(
            f"{len(made)} links leave {found.folder}, more than the {MOST} that can be mounted.",
            "Give the folder that holds both the links and their targets, or a copy (`cp -rL`).",
        )
    return tuple(mount for mount in made if not _is_below(mount, made))


def refuse_clashes(made: Sequence[Mount]) -> None:
    """
    Refuse mounts of which two have the same place.

    Raises:
        DataError: There are such mounts.
    """
    taken: dict[str, str] = {}
    for mount in made:
        other = taken.setdefault(mount.target, mount.source)
        if other != mount.source:
            raise DataError(
                f"Links lead to {other} and to {mount.source}, which would both be "
                f"{mount.target} in the container.",
                _COPY,
            )


def _mounts(found: Tree, places: Mapping[str, Path]) -> Iterator[Mount]:
    for link in found.leaving if found.follow else ():
        source = os.path.realpath(link.path)
        _refuse(link, source)
        here = _among(places, link.inside)
        if here is not None:
            # By a folder's name, and so only if that is the same in the container.
            if os.path.realpath(here) != source:
                raise DataError(_says(link, "leads somewhere else in the container"), _COPY)
        elif _is_taken(link.inside):
            raise DataError(_says(link, f"would hide {link.inside} of the image"), _COPY)
        else:
            yield Mount(source=source, target=link.inside)


def _among(places: Mapping[str, Path], inside: str) -> Path | None:
    """Return what is at *inside* if it is in one of the data folders *places*."""
    for target, folder in places.items():
        if inside == target or inside.startswith(f"{target}/"):
            return folder / os.path.relpath(inside, target)
    return None


def _refuse(link: Leaving, source: str) -> None:
    if not Path(source).exists():
        raise DataError(_says(link, "leads nowhere"), "Remove it, or restore its target.")
    if tree.is_system(source):
        raise DataError(
            _says(link, "leads into a system folder, which a run must not see"), "Remove it."
        )


def _says(link: Leaving, what: str) -> str:
    return f"The link {link.path} -> {link.lead} {what}."


def _is_taken(inside: str) -> bool:
    # A mount of one of these would hide everything below it.
    return inside in ("/", "/data", "/tmp") or any(  # noqa: S108
        inside == taken or inside.startswith(f"{taken}/") for taken in TAKEN
    )


def _is_below(mount: Mount, made: Sequence[Mount]) -> bool:
    """Whether another of *made* already has *mount* in it."""
    return any(
        mount.target.startswith(f"{other.target}/")
        and mount.source == other.source + mount.target.removeprefix(other.target)
        for other in made
    )
