"""
The files of a data folder, and one hash of their names and contents.

The host computes it before it starts a container, and a standalone container computes it
itself. The same content has the same fingerprint in both.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# Files passed to the threads at once: a million queued tasks would take a gigabyte.
BATCH = 4096


def files(folder: Path) -> list[Path]:
    """Return all files under *folder*, sorted, except those that can't be listed."""
    paths = (Path(root) / name for root, _, names in os.walk(folder) for name in names)
    return sorted(path for path in paths if path.is_file())


def names(folder: Path, paths: Iterable[Path]) -> list[str]:
    """Return the names of *paths* relative to *folder*."""
    return [str(path.relative_to(folder)) for path in paths]


def size(paths: Iterable[Path]) -> int:
    """Return the total size of the files *paths* in bytes."""
    return sum(path.stat().st_size for path in paths)


def fingerprint(folder: Path, paths: Sequence[Path]) -> str:
    """
    Return the SHA-256 of the relative names and the contents of the files *paths*.

    Raises:
        OSError: One of them can't be read.
    """
    return combine(names(folder, paths), hash_all(paths))


def hash_all(paths: Sequence[Path], read: Callable[[Path], str] | None = None) -> Iterator[str]:
    """Yield the hash of each file's content, in order; files are read in parallel."""
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(paths), BATCH):
            yield from pool.map(read or hash_file, paths[start : start + BATCH])


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def together(fingerprints: Iterable[str | None]) -> str | None:
    """Return several fingerprints as one text, which may be empty; None if one is missing."""
    values = list(fingerprints)
    return None if None in values else ", ".join(map(str, values))


def combine(names: Iterable[str], contents: Iterable[str]) -> str:
    """Return the fingerprint of files with these *names* and hashes of their *contents*."""
    digest = hashlib.sha256()
    for name, content in zip(names, contents, strict=True):
        # Names are bytes, not necessarily UTF-8.
        digest.update(os.fsencode(name) + f"\0{content}\n".encode())
    return f"sha256:{digest.hexdigest()}"
