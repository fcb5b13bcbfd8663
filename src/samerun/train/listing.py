"""
Folders are listed in the order of their names, on every disk.

ext4, tmpfs and a bucket each have an order of their own, and code that splits what it lists with
a seed (fastai's ``get_files`` and ``RandomSplitter``) would train on other data.
"""

import os
from collections.abc import Iterator
from typing import Any, Self


class Entries:
    """What ``os.scandir`` returns, sorted; a context and an iterator like the original."""

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
        """Free what is left; the folder itself is closed already."""
        self._entries = iter(())


def install() -> None:
    """Sort ``os.listdir`` and ``os.scandir``, which all other ways of listing use."""
    listed, scanned = os.listdir, os.scandir

    def listdir(path: Any = ".") -> Any:
        return sorted(listed(path))

    def scandir(path: Any = ".") -> Any:
        with scanned(path) as entries:
            return Entries(sorted(entries, key=lambda entry: entry.name))

    os.listdir, os.scandir = listdir, scandir
