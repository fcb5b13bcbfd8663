"""Safe reading of files that a container may have created, and atomic writing."""

import errno
import os
import secrets
import stat
from pathlib import Path
from typing import BinaryIO

LARGEST_PART = 64 * 2**20
"""Bytes: larger than the metrics of a million epochs, but small enough for the host."""


def write_atomically(path: Path, text: str) -> None:
    """
    Write to a temporary file, then rename it: a kill leaves the old file or the new one.

    The temporary name is random and must be new. Otherwise the container could create a link
    with this name, and the host would write to any of the user's files.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with temporary.open("x", encoding="utf-8") as file:
            file.write(text)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def read_plain(path: Path, limit: int | None = None) -> bytes:
    """
    Read a file that a container may have created; refuse links, pipes and large files.

    Raises:
        OSError: It is not a plain file of at most *limit* bytes (`LARGEST_PART`).
    """
    with open_plain(path) as file:
        most = LARGEST_PART if limit is None else limit
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, "too large for a part of a record", str(path))
    return content


def open_plain(path: Path, flags: int = os.O_RDONLY) -> BinaryIO:
    """
    Open a file that a container may have created; refuse links and pipes.

    Raises:
        OSError: It is not a plain file.
    """
    if path.parent.is_symlink():
        raise OSError(errno.ELOOP, "a link instead of a folder", str(path.parent))
    # O_NONBLOCK, because opening a pipe would block.
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a plain file", str(path))
    return os.fdopen(descriptor, "r+b" if flags & os.O_RDWR else "rb")
