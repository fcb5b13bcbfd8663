"""Files that a container may have laid out, read with bounds; and writing whole or not at all."""

import errno
import os
import secrets
import stat
from pathlib import Path
from typing import BinaryIO

LARGEST_PART = 64 * 2**20
"""Bytes. The metrics of a million epochs are smaller; the host's memory is not."""


def write_atomically(path: Path, text: str) -> None:
    """
    Write to a temporary name, then rename: a kill leaves the old file or the new one.

    The name can't be guessed and must be new: a link that the container laid out in the
    run's folder would else lead the host's pen to any file of the user's.
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
    Read a file that a container may have laid out: no link, no pipe, not without end.

    Raises:
        OSError: It is something else than a file of at most *limit* bytes (`LARGEST_PART`).
    """
    with open_plain(path) as file:
        most = LARGEST_PART if limit is None else limit
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, "too large for a part of a record", str(path))
    return content


def open_plain(path: Path, flags: int = os.O_RDONLY) -> BinaryIO:
    """
    Open a file that a container may have laid out: never through a link, and no pipe.

    Raises:
        OSError: It is something else than a plain file.
    """
    if path.parent.is_symlink():
        raise OSError(errno.ELOOP, "a link instead of a folder", str(path.parent))
    # A pipe would let its reader wait for ever.
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a plain file", str(path))
    return os.fdopen(descriptor, "r+b" if flags & os.O_RDWR else "rb")
