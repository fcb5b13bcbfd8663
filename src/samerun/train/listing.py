"""
List folders sorted by name, on every file system.

ext4, tmpfs and buckets list files in different orders, so code that splits a listing with a seed
(fastai's ``get_files`` and ``RandomSplitter``) would train on different data.
"""

import os
from collections.abc import Iterator
from typing import Any, Self


class Entries:
    """The sorted result of ``os.scandir``; a context manager and iterator like the original."""

    def __init__(self, entries: "list[os.DirEntry[Any]]") -> None:
        self._entries = iter(entries)

    def __iter__(self) -> "Iterator[os.DirEntry[Any]]":
        return self

    def __next__(self) -> "os.DirEntry[Any]":
        return next(self._entries)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Drop the remaining entries; the folder itself is already closed."""
        self._entries = iter(())


def install() -> None:
    """Sort ``os.listdir`` and ``os.scandir``, on which all other listing functions are based."""
    listed, scanned = os.listdir, os.scandir

    def listdir(path: Any = ".") -> Any:
        try:
            return sorted(listed(path))
        except FileNotFoundError:
            _tell(path)
            raise

    def scandir(path: Any = ".") -> Any:
        try:
            with scanned(path) as entries:
                return Entries(sorted(entries, key=lambda entry: entry.name))
        except FileNotFoundError:
            # `os.walk`, and so fastai's `get_files`, takes it for an empty folder.
            _tell(path)
            raise

    os.listdir, os.scandir = listdir, scandir


def _tell(path: Any) -> None:
    # Imported late, because every Python process of a run loads this module.
    from samerun.train.report import host_paths

    host_paths.tell(path)
