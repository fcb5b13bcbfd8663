"""A data folder: its checks and the fingerprint of its content."""

import functools
import os
import shlex
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from samerun.core import content, data_names, tree
from samerun.core.errors import DataError, UsageError
from samerun.core.record import Data, Mount
from samerun.core.tree import Tree
from samerun.host.launch import data_cache, data_links

# An error names so many files at most.
NAMED = 5


@dataclass(frozen=True, kw_only=True)
class Folder:
    """A folder for the run; *name* is empty if it is the only one and mounted as ``/data``."""

    path: Path
    name: str = ""
    follow_links: bool = False

    @property
    def target(self) -> str:
        """Its path in the container."""
        return data_names.target(self.name)


@dataclass(frozen=True, kw_only=True)
class Listed:
    """A folder that a run may see, with its content; *mounts* begins with the folder itself."""

    folder: Folder
    tree: Tree
    mounts: tuple[Mount, ...]


@dataclass(frozen=True, kw_only=True)
class Present:
    """A folder with its fingerprint and its mounts."""

    entry: Data
    mounts: tuple[Mount, ...]


def parse(texts: Sequence[str], *, follow_links: bool = False) -> tuple[Folder, ...]:
    """
    Return the folders of ``--data``.

    Raises:
        UsageError: Two would be mounted in the same place, or a name is invalid.
    """
    return tuple(
        Folder(name=name, path=Path(place).expanduser(), follow_links=follow_links)
        for name, place in data_names.parse(texts)
    )


def moved(recorded: Sequence[Data], texts: Sequence[str]) -> dict[str, Path]:
    """
    Return where the data of a run is now, by its path in the container, as ``--data`` says.

    Raises:
        UsageError: The run has no such data.
    """
    places = {}
    for name, place in data_names.parse(texts):
        only = not name and len(recorded) == 1
        target = recorded[0].target if only else data_names.target(name)
        if target not in [entry.target for entry in recorded]:
            known = ", ".join(entry.target for entry in recorded) or "none"
            raise UsageError(
                f"--data {data_names.shown(name, place)}: the run has no data {target}, but "
                f"{known}.",
                "Give its data by the same names." if recorded else "Omit --data.",
            )
        places[target] = Path(place).expanduser()
    return places


def look(folders: Iterable[Folder]) -> tuple[Listed, ...]:
    """
    Return *folders* with their content.

    Raises:
        DataError: `list_files` refuses one, or two lead to the same path in the container.
    """
    wanted = tuple(folders)
    places = {folder.target: folder.path for folder in wanted}
    found = tuple(list_files(folder, places) for folder in wanted)
    data_links.refuse_clashes([mount for listed in found for mount in listed.mounts])
    return found


def fingerprint_folder(listed: Listed) -> Present:
    """
    Return *listed* with the fingerprint of its content.

    Raises:
        DataError: A file can't be read, or is a pointer of Git LFS.
    """
    folder, files = listed.folder, listed.tree.files
    entry = Data(
        source=str(folder.path.resolve()),
        target=folder.target,
        fingerprint=fingerprint(listed.tree),
        files=len(files),
        size_bytes=content.size(files),
        follow_links=folder.follow_links,
    )
    return Present(entry=entry, mounts=listed.mounts)


def all_mounts(folders: Iterable[Present]) -> list[Mount]:
    """Return the mounts of *folders*, whose links may lead to the same place."""
    return list(dict.fromkeys(mount for folder in folders for mount in folder.mounts))


def list_files(folder: Folder, places: Mapping[str, Path] | None = None) -> Listed:
    """
    Return everything in *folder*; *places* are all folders of the run, by their mount points.

    Raises:
        DataError: It does not exist, is not a folder, is a system folder, has no files, or has
            links, pipes or sockets that the run would see otherwise than the host.
    """
    path = folder.path
    if tree.is_system(str(path.resolve())):
        raise DataError(
            f"--data {path} is a system folder, which a run must not see.",
            "Give a folder that holds only data, without passwords, devices or sockets.",
        )
    if not path.is_dir():
        kind = "is not a folder" if path.exists() else "does not exist"
        raise DataError(f"--data {path} {kind}.", _remedy(folder))
    found = tree.scan(path, folder.target, follow=folder.follow_links)
    _refuse_special(found)
    _refuse_links(found)
    if not found.files:
        raise DataError(
            f"--data {path} contains no files.", "Check that the data is mounted or downloaded."
        )
    own = Mount(source=str(path.resolve()), target=folder.target)
    others = data_links.mounts(found, places or {folder.target: path})
    return Listed(folder=folder, tree=found, mounts=(own, *others))


def _remedy(folder: Folder) -> str:
    whole = f"{folder.name}={folder.path}"
    if folder.name and Path(whole).is_dir():
        return f"Give ./{whole} for the folder of that name."
    return "Give the folder that holds the data."


def _refuse_special(found: Tree) -> None:
    if found.special:
        raise DataError(
            f"{_names(found.special)} is a pipe, a socket or a device: a run must not open it, and "
            "it has no fingerprint.",
            "Remove it, or give a folder that holds only files.",
        )


def _refuse_links(found: Tree) -> None:
    if found.leaving and not found.follow:
        named = [f"{link.path} -> {link.lead}" for link in found.leaving]
        raise DataError(
            f"These links leave the folder, so the run would not see their targets: "
            f"{_names(named)}.",
            "Pass --follow-links to mount their targets as well, replace them by copies "
            "(`cp -rL`), or give the folder that holds the files.",
        )
    if found.loops:
        raise DataError(
            f"{_names(found.loops)} is reached by a link in it, without end.",
            "Remove the link, or give a folder without it.",
        )


def _names(found: Sequence[object]) -> str:
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    return ", ".join(map(str, found[:NAMED])) + more


def check_readable(files: Sequence[Path], owner: tuple[int, int]) -> None:
    """
    Refuse files that the run's user *owner* can't read although the caller (root) can.

    Raises:
        DataError: There is such a file or folder; the message names the first.
    """
    if os.geteuid() != 0:
        return  # The run's user is the caller, so computing the fingerprint checks this.
    for path in (*dict.fromkeys(file.parent for file in files), *files):
        if not _is_readable(path.stat(), owner):
            raise DataError(
                f"{path} can't be read by the run, which has uid {owner[0]}, not root.",
                f"Make it readable (`chmod -R o+rX {shlex.quote(str(path))}`), or train as its "
                "owner.",
            )


def _is_readable(status: os.stat_result, owner: tuple[int, int]) -> bool:
    """Whether *owner* may read the file, or read and enter the folder, of *status*."""
    required = 0o5 if stat.S_ISDIR(status.st_mode) else 0o4
    if status.st_uid == owner[0]:
        return status.st_mode >> 6 & required == required
    shift = 3 if status.st_gid == owner[1] else 0
    return status.st_mode >> shift & required == required


def fingerprint(found: Tree) -> str:
    """
    Return the SHA-256 of relative names and contents.

    Files are hashed in parallel; unchanged files are not read again.

    Raises:
        DataError: A file can't be read, or is a pointer of Git LFS.
    """
    folder, files = found.folder, found.files
    cache = data_cache.load(folder)
    pointers: list[Path] = []
    names = content.names(folder, files)
    known = [_known(cache, name, path) for name, path in zip(names, files, strict=True)]
    unknown = [path for path, digest in zip(files, known, strict=True) if digest is None]
    read = content.hash_all(unknown, functools.partial(_read_and_keep, cache, folder, pointers))
    contents = [next(read) if digest is None else digest for digest in known]
    if pointers:
        raise DataError(
            f"{_names(sorted(pointers))}: a pointer of Git LFS instead of the file itself.",
            f"Run `git -C {shlex.quote(str(folder))} lfs pull`.",
        )
    cache.save()
    return content.combine(found, contents)


def _known(cache: data_cache.Cache, name: str, path: Path) -> str | None:
    known = cache.get(name, data_cache.stamp(path.stat()))
    return known if os.access(path, os.R_OK) else None


def _read_and_keep(cache: data_cache.Cache, folder: Path, pointers: list[Path], path: Path) -> str:
    before = data_cache.stamp(path.stat())
    digest = _hash(path)
    if content.is_pointer(path):
        pointers.append(path)
    elif data_cache.stamp(path.stat()) == before:
        cache.put(str(path.relative_to(folder)), before, digest)
    return digest


def _hash(path: Path) -> str:
    try:
        return content.hash_file(path)
    except OSError as error:
        raise DataError(
            f"{path} can't be read: {error.strerror}.", "Check its permissions."
        ) from error
