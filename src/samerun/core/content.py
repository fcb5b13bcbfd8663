"""
One hash of the names and contents of a data folder.

The host computes it before it starts a container, and a standalone container computes it
itself. The same content has the same fingerprint in both.
"""

import errno
import hashlib
import io
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from samerun.core.tree import Tree

# Files passed to the threads at once: a million queued tasks would take a gigabyte.
BATCH = 4096


# https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md: a pointer has less than 1024 bytes.
POINTER = b"version https://git-lfs.github.com/spec/v1\n"
POINTER_BYTES = range(len(POINTER), 1024)


def names(folder: Path, paths: Iterable[Path]) -> list[str]:
    """Return the names of *paths* relative to *folder*."""
    return [str(path.relative_to(folder)) for path in paths]


def size(paths: Iterable[Path]) -> int:
    """Return the total size of the files *paths* in bytes."""
    return sum(path.stat().st_size for path in paths)


def fingerprint(tree: Tree) -> str:
    """
    Return the SHA-256 of the relative names and the contents of *tree*.

    Raises:
        OSError: A file can't be read.
    """
    return combine(tree, hash_all(tree.files))


def hash_all(paths: Sequence[Path], read: Callable[[Path], str] | None = None) -> Iterator[str]:
    """Yield the hash of each file's content, in order; files are read in parallel."""
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(paths), BATCH):
            yield from pool.map(read or hash_file, paths[start : start + BATCH])


def hash_file(path: Path) -> str:
    """
    Return the SHA-256 of a file's content, in hexadecimal.

    Raises:
        OSError: It can't be read, or is not a plain file any more.
    """
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_file(path: Path) -> io.BufferedReader:
    """
    Open a plain file, or a link to one, for reading.

    Raises:
        OSError: It can't be opened, or is no plain file.
    """
    # O_NONBLOCK, because opening a pipe would block.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a plain file", str(path))
    return os.fdopen(descriptor, "rb")


def is_pointer(path: Path) -> bool:
    """
    Whether the file is a pointer of Git LFS, in place of a file that was not downloaded.

    Raises:
        OSError: It can't be read.
    """
    if path.stat().st_size not in POINTER_BYTES:
        return False
    with open_file(path) as file:
        return file.read(len(POINTER)) == POINTER


def combine(tree: Tree, contents: Iterable[str]) -> str:
    """
    Return the fingerprint of the files of *tree* with these hashes of their *contents*.

    Links to folders count by their targets, whose files have their own names.
    """
    digest = hashlib.sha256()
    for name, content in zip(names(tree.folder, tree.files), contents, strict=True):
        # Names are bytes, not necessarily UTF-8.
        digest.update(os.fsencode(name) + f"\0{content}\n".encode())
    for link, target in tree.links:
        place = os.fsencode(link.relative_to(tree.folder))
        digest.update(place + b"\0link " + os.fsencode(target) + b"\n")
    return f"sha256:{digest.hexdigest()}"
