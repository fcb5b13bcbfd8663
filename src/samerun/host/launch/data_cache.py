"""
Hashes of data files that were read before, in the user's cache.

A file counts as unchanged if its path, size, times and inode are the same: the kernel sets
the time of the last change, and no program can set it back unnoticed.
"""

import contextlib
import hashlib
import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

from samerun.core.files import write_atomically
from samerun.host.machine import cache

# A file this new may still change within the resolution of the file system's times.
YOUNG_NS = 2 * 10**9

Stamp = list[int]


def stamp(status: os.stat_result) -> Stamp:
    """Return values that change when a file does."""
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev]


@dataclass(kw_only=True)
class Cache:
    """The known hashes under one folder."""

    path: Path
    known: dict[str, tuple[Stamp, str]] = field(default_factory=dict)
    fresh: dict[str, tuple[Stamp, str]] = field(default_factory=dict)

    def get(self, name: str, current: Stamp) -> str | None:
        """Return the hash of the file *name* if it has not changed since it was read."""
        entry = self.known.get(name)
        if entry is None or list(entry[0]) != current:
            return None
        self.fresh[name] = entry
        return entry[1]

    def put(self, name: str, current: Stamp, digest: str) -> None:
        """Store the hash of a file that was read, if it has not changed for a while."""
        if time.time_ns() - max(current[1], current[2]) > YOUNG_NS:
            self.fresh[name] = (current, digest)

    def save(self) -> None:
        """Write the hashes of all files that still exist."""
        if self.fresh == self.known:
            return
        with contextlib.suppress(OSError):  # A read-only home folder costs only time.
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_atomically(self.path, json.dumps(self.fresh))


def load(folder: Path) -> Cache:
    """Return the known hashes of files under *folder*."""
    # The number changes when files are checked that were not before.
    key = hashlib.sha256(f"2 {folder.resolve()}".encode()).hexdigest()
    path = cache.folder("data") / f"{key}.json"
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        return Cache(path=path, known={n: (list(s), str(d)) for n, (s, d) in raw.items()})
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return Cache(path=path)
