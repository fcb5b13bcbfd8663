"""
Let a script read its project's files by the paths that it has on the host.

A run works in its own folder, so that what a script writes by a relative path is kept. What it
reads there and is not there is looked for in the project, in the folder in which the user was
(SAMERUN_READS_FROM). So the two folders lie over each other, as layers do: the run's above, where
all is written, the project's below, which is only read. What does not open files through Python,
such as OpenCV, sees the run's folder only.

`pathlib` and `glob` keep some of the functions that are replaced here, so it imports neither.
"""

import builtins
import contextlib
import functools
import io
import os
import stat
from collections.abc import Callable
from typing import Any

from samerun.core import contract
from samerun.train.listing import Entries

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
# What samerun and W&B keep in the run's folder is never looked for in the project.
_OWN = {
    *(contract.RECORD, contract.LOG, contract.PATCH, contract.RESERVE, contract.STOP),
    *(contract.SYNC, contract.CHECKPOINTS, contract.PARTS, "wandb"),
}
_Call = Callable[..., Any]


class Layers:
    """The run's folder *top*, over the project's *below*."""

    def __init__(self, top: str, below: str) -> None:
        self._top, self._below = top, below
        # The system's own functions: those of `os` are replaced afterwards.
        self._stat, self._lstat, self._mkdir = os.stat, os.lstat, os.mkdir

    def below(self, path: Any) -> str | None:
        """Return the path in the project that stands for *path* in the run's folder."""
        try:
            text = os.fsdecode(path)
            inside = os.path.relpath(os.path.abspath(text), self._top)  # noqa: PTH100
        except (TypeError, ValueError, OSError):  # A number, or no current folder.
            return None
        first = inside.partition("/")[0]
        if first in _OWN or (first == ".." and text.startswith("/")):
            return None
        place = os.path.normpath(f"{self._below}/{inside}")
        return place if _is_in(place, contract.CODE) else None

    def found(self, path: Any) -> str | None:
        """
        Return the path in the project of what is only there.

        A folder appears in the run's folder as well, where a script may write to it next.
        """
        place = self.below(path)
        if place is None or not self._exists(place):
            return None
        if self._is_folder(place):
            self._mirror(os.fsdecode(path))
        return place

    def mirror_parent(self, path: Any) -> bool:
        """Create the folder of *path*, which a script is about to write, as in the project."""
        parent = os.path.dirname(os.fsdecode(path))  # noqa: PTH120
        place = self.below(parent) if parent else None
        return place is not None and self._is_folder(place) and self._mirror(parent)

    def _exists(self, place: str) -> bool:
        with contextlib.suppress(OSError, ValueError):
            self._lstat(place)
            return True
        return False

    def _is_folder(self, place: str) -> bool:
        with contextlib.suppress(OSError, ValueError):
            return stat.S_ISDIR(self._stat(place).st_mode)
        return False

    def _mirror(self, path: str) -> bool:
        whole = os.path.abspath(path)  # noqa: PTH100
        if not _is_in(whole, self._top):
            return False
        folder = self._top
        for name in os.path.relpath(whole, self._top).split("/"):
            folder = f"{folder}/{name}"
            with contextlib.suppress(OSError):
                self._mkdir(folder)
        return self._is_folder(whole)


def _is_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")


class _Below:
    """An entry of a folder of the project, with the path that was asked for."""

    def __init__(self, entry: "os.DirEntry[str]", folder: Any) -> None:
        self._entry = entry
        as_given = os.fsencode if isinstance(folder, bytes) else os.fsdecode
        self.name = as_given(entry.name)
        self.path = os.path.join(os.fspath(folder), self.name)  # noqa: PTH118 - as os.scandir

    def __fspath__(self) -> Any:
        return self.path

    def __repr__(self) -> str:
        return f"<DirEntry {self.name!r}>"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._entry, name)  # is_dir, is_file, is_symlink, is_junction, stat, inode


_installed: Layers | None = None


def install() -> None:
    """Lay the run's folder over the project's, once, if this is a script of a run."""
    global _installed
    below, record = os.environ.get(contract.ENV_READS_FROM), os.environ.get(contract.ENV_RECORD)
    if _installed is not None or not below or not record:
        return
    _installed = layers = Layers(os.path.dirname(os.path.abspath(record)), below)  # noqa: PTH100, PTH120
    # Those for extended attributes, because `shutil.copy2` asks for them.
    for name in ("stat", "lstat", "chdir", "readlink", "statvfs", "listxattr", "getxattr"):
        setattr(os, name, _reading(layers, getattr(os, name)))
    os.access = _accessing(layers, os.access)  # type: ignore[assignment]
    os.listdir = _listing(layers, os.listdir)
    os.scandir = _scanning(layers, os.scandir)
    os.mkdir = _writing(layers, os.mkdir)
    os.open = _opening(layers, os.open)
    builtins.open = io.open = _opening_file(layers, io.open)


def _is_ours(kwargs: dict[str, Any]) -> bool:
    return kwargs.get("dir_fd") is None


def _reading(layers: Layers, original: _Call) -> _Call:
    """Extend a function that fails where there is no file."""

    @functools.wraps(original)
    def read(path: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return original(path, *args, **kwargs)
        except FileNotFoundError:
            there = layers.found(path) if _is_ours(kwargs) else None
            if there is None:
                raise
        return original(there, *args, **kwargs)

    return read


def _writing(layers: Layers, original: _Call) -> _Call:
    """Extend a function that creates *path*, whose folder may be only in the project."""

    @functools.wraps(original)
    def write(path: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return original(path, *args, **kwargs)
        except FileNotFoundError:
            if not _is_ours(kwargs) or not layers.mirror_parent(path):
                raise
        return original(path, *args, **kwargs)

    return write


def _opening(layers: Layers, original: _Call) -> _Call:
    read, write = _reading(layers, original), _writing(layers, original)

    @functools.wraps(original)
    def open_(path: Any, flags: int, *args: Any, **kwargs: Any) -> Any:
        return (write if flags & _WRITES else read)(path, flags, *args, **kwargs)

    return open_


def _opening_file(layers: Layers, original: _Call) -> _Call:
    read, write = _reading(layers, original), _writing(layers, original)

    @functools.wraps(original)
    def open_(file: Any, mode: Any = "r", *args: Any, **kwargs: Any) -> Any:
        if isinstance(file, int):
            return original(file, mode, *args, **kwargs)
        is_write = isinstance(mode, str) and bool(set("wax+") & set(mode))
        return (write if is_write else read)(file, mode, *args, **kwargs)

    return open_


def _accessing(layers: Layers, original: _Call) -> _Call:
    @functools.wraps(original)
    def access(path: Any, mode: int, **kwargs: Any) -> bool:
        if original(path, mode, **kwargs):
            return True
        there = layers.found(path) if _is_ours(kwargs) else None
        return there is not None and bool(original(there, mode, **kwargs))

    return access


def _listing(layers: Layers, original: _Call) -> _Call:
    @functools.wraps(original)
    def listdir(path: Any = ".") -> Any:
        place = layers.below(path)
        if place is None:
            return original(path)
        below = _listed(original, place)
        try:
            above = original(path)
        except FileNotFoundError:
            if below is None:
                raise
            above = []
        names = sorted({os.fsdecode(name) for name in (*above, *(below or ()))})
        return list(map(os.fsencode, names)) if isinstance(path, bytes) else names

    return listdir


def _listed(original: _Call, place: str) -> Any:
    with contextlib.suppress(OSError):
        return original(place)
    return None


def _scanning(layers: Layers, original: _Call) -> _Call:
    @functools.wraps(original)
    def scandir(path: Any = ".") -> Any:
        place = layers.below(path)
        if place is None:
            return original(path)
        below = _listed(original, place)
        try:
            entries = {os.fsdecode(entry.name): entry for entry in original(path)}
        except FileNotFoundError:
            if below is None:
                raise
            entries = {}
        merged = {entry.name: _Below(entry, path) for entry in below or ()} | entries
        return Entries([merged[name] for name in sorted(merged)])

    return scandir
