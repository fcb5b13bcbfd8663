"""
What a data folder holds as a run sees it: files, links to folders, and what must not be there.

The host and a standalone container list a folder with the same code, so that the fingerprint is
of what the training can read. A link within the folder leads to the same place on both sides. A
link that leaves the folder is followed, and listed: the host refuses it or mounts its target.
Nothing is opened here.
"""

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

# System folders, whose content would give a run control over the machine.
SYSTEM = ("/", "/boot", "/dev", "/etc", "/proc", "/root", "/run", "/sys", "/var", "/var/lib")
SYSTEM_WHOLLY = ("/boot", "/dev", "/etc", "/proc", "/run", "/sys")
# Folders of users in there: in memory, but for those with a key of ours, and on other disks.
OF_USERS = re.compile(
    r"/dev/shm/(?!samerun-)[^/]+|/run/media/[^/]+/[^/]+"  # noqa: S108 - nothing is written there
)

# As in Linux, after which a path has too many links.
MOST_LINKS = 40

Parts = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Leaving:
    """A link out of the folder; *inside* is the path to which it leads in the container."""

    path: Path
    lead: str
    inside: str


@dataclass(frozen=True, kw_only=True)
class Tree:
    """
    The content of *folder*.

    *links* are links to folders within it, with their targets relative to it. *special* are
    pipes, sockets and devices, *loops* are followed links to folders that contain them.
    """

    folder: Path
    follow: bool = True
    files: list[Path] = field(default_factory=list)
    links: list[tuple[Path, str]] = field(default_factory=list)
    leaving: list[Leaving] = field(default_factory=list)
    special: list[Path] = field(default_factory=list)
    loops: list[Path] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class _Root:
    """A folder that is mounted at *inside*: the data folder, or the target of a link out of it."""

    real: str
    inside: str
    # Relative to the data folder.
    name: str


@dataclass(frozen=True, kw_only=True)
class _Place:
    """A folder to list, by its path in *root*; *chain* identifies it and those above."""

    root: _Root
    parts: Parts
    path: Path
    chain: tuple[tuple[int, int], ...]


def is_system(path: str) -> bool:
    """Whether the real path *path* is a folder of the system, or a file in one."""
    if OF_USERS.match(path):
        return False
    return path in SYSTEM or any(path.startswith(f"{folder}/") for folder in SYSTEM_WHOLLY)


def scan(folder: Path, inside: str | None = None, *, follow: bool = True) -> Tree:
    """
    Return the content of *folder*, each list sorted; in the container it is at *inside*.

    What can't be listed is left out. Links that leave the folder are listed, and with *follow*
    what they lead to, except in the system's folders.
    """
    tree = Tree(folder=folder, follow=follow)
    real = os.path.realpath(folder)
    root = _Root(real=real, inside=inside or real, name="")
    waiting = [_Place(root=root, parts=(), path=folder, chain=(_identity(folder),))]
    while waiting:
        waiting += _scan_one(tree, waiting.pop())
    for found in (tree.files, tree.links, tree.special, tree.loops):
        found.sort()
    tree.leaving.sort(key=lambda link: link.path)
    return tree


def _identity(folder: Path) -> tuple[int, int]:
    try:
        status = folder.stat()
    except OSError:
        return (0, 0)
    return (status.st_dev, status.st_ino)


def _scan_one(tree: Tree, place: _Place) -> Iterator[_Place]:
    """Add what is in *place* to *tree*; yield the folders in it."""
    try:
        with os.scandir(place.path) as entries:
            listed = list(entries)
    except OSError:
        return
    for entry in listed:
        path = place.path / entry.name
        if entry.is_symlink():
            yield from _scan_link(tree, place, path)
        elif entry.is_dir(follow_symlinks=False):
            yield from _enter(tree, place.root, (*place.parts, entry.name), path, place.chain)
        elif entry.is_file(follow_symlinks=False):
            tree.files.append(path)
        else:
            tree.special.append(path)


def _enter(
    tree: Tree, root: _Root, parts: Parts, path: Path, chain: tuple[tuple[int, int], ...]
) -> Iterator[_Place]:
    own = _identity(path)
    if own in chain:
        tree.loops.append(path)
    else:
        yield _Place(root=root, parts=parts, path=path, chain=(*chain, own))


def _scan_link(tree: Tree, place: _Place, path: Path) -> Iterator[_Place]:
    lead = str(path.readlink())
    within = resolve(place.root.real, place.parts, lead)
    mode = _mode(path)
    inside = ""
    if within is None:
        base = "/".join((place.root.inside, *place.parts))
        inside = os.path.normpath(lead if lead.startswith("/") else f"{base}/{lead}")
        tree.leaving.append(Leaving(path=path, lead=lead, inside=inside))
        if not tree.follow or is_system(os.path.realpath(path)):
            return
    if mode is None:
        return  # It leads nowhere, here as in the container.
    if stat.S_ISREG(mode):
        tree.files.append(path)
    elif not stat.S_ISDIR(mode):
        tree.special.append(path)
    elif within is not None:
        tree.links.append((path, os.path.normpath("/".join((place.root.name, *within)) or ".")))
    else:
        root = _Root(
            real=os.path.realpath(path),
            inside=inside,
            name=str(path.relative_to(tree.folder)),
        )
        yield from _enter(tree, root, (), path, place.chain)


def _mode(path: Path) -> int | None:
    """Return the mode of what *path* leads to; None if it does not exist, or is a loop."""
    try:
        return path.stat().st_mode
    except OSError:
        return None


def resolve(root: str, parts: Parts, lead: str) -> Parts | None:
    """
    Return where the link *lead* in the folder *parts* of *root* leads, relative to *root*.

    None means that it leaves *root* on the way, also if it comes back by the folder's name, which
    is another one in the container.
    """
    at, pending, links = list(parts), _words(lead), 0
    if lead.startswith("/"):
        return None
    while pending:
        word = pending.pop()
        if word != "..":
            at.append(word)
        elif at:
            at.pop()
        else:
            return None
        path = Path(root, *at)
        if word == ".." or links == MOST_LINKS or not path.is_symlink():
            continue
        links += 1
        lead = str(path.readlink())
        if lead.startswith("/"):
            return None
        at.pop()
        pending += _words(lead)
    return tuple(at)


def _words(lead: str) -> list[str]:
    """Return the names in *lead*, the first one last."""
    return [word for word in reversed(lead.split("/")) if word not in ("", ".")]
