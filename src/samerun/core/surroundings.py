"""External causes of a failure: a full disk, or data that vanished."""

import os
from collections.abc import Iterable
from pathlib import Path

from samerun.core import contract


def is_full(folder: Path) -> bool:
    """Whether the disk of *folder* has no space or no inodes for another file."""
    try:
        status = os.statvfs(folder)
    except OSError:
        return False
    # File systems without a table of inodes report 0 of 0.
    out_of_inodes = status.f_files > 0 and status.f_favail == 0
    return status.f_bavail * status.f_frsize < contract.FULL_BYTES or out_of_inodes


def missing(folders: Iterable[str]) -> str | None:
    """Return the first of *folders* that no longer exists or is empty; None if all are fine."""
    return next((folder for folder in folders if not _has_entries(Path(folder))), None)


def _has_entries(folder: Path) -> bool:
    try:
        return any(folder.iterdir())
    except OSError:
        return False
