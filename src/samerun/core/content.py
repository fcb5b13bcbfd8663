"""
The files of a data folder, and one hash over their names and contents.

Taken by the host before it starts a container, and by a container that nobody's host side
started: the same content has the same fingerprint in both.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# Files handed to the threads at once: a million waiting tasks would take a gigabyte.
BATCH = 4096


def files(folder: Path) -> list[Path]:
    """Return all files under *folder*, sorted; what can't be listed is left out."""
    found = (Path(root) / name for root, _, names in os.walk(folder) for name in names)
    return sorted(path for path in found if path.is_file())


def names(folder: Path, found: Iterable[Path]) -> list[str]:
    """Return the names of *found* relative to *folder*."""
    return [str(path.relative_to(folder)) for path in found]


def size(found: Iterable[Path]) -> int:
    """Return the bytes of *found*."""
    return sum(path.stat().st_size for path in found)


def fingerprint(folder: Path, found: Sequence[Path]) -> str:
    """
    Return the SHA-256 over relative names and contents of the files *found*.

    Raises:
        OSError: One of them can't be read.
    """
    return combine(names(folder, found), hash_all(found))


def hash_all(found: Sequence[Path], read: Callable[[Path], str] | None = None) -> Iterator[str]:
    """Yield the hash of each file's content, in their order; they are read in parallel."""
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(found), BATCH):
            yield from pool.map(read or hash_file, found[start : start + BATCH])


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def together(fingerprints: Iterable[str | None]) -> str | None:
    """Return several fingerprints as one text, empty for none; None where one was not taken."""
    found = list(fingerprints)
    return None if None in found else ", ".join(map(str, found))


def combine(names: Iterable[str], contents: Iterable[str]) -> str:
    """Return the fingerprint of files with these *names* and hashes of their *contents*."""
    digest = hashlib.sha256()
    for name, content in zip(names, contents, strict=True):
        # A name is bytes, which need not be UTF-8.
        digest.update(os.fsencode(name) + f"\0{content}\n".encode())
    return f"sha256:{digest.hexdigest()}"
