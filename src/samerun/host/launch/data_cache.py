"""
Hashes of data files that were read before, in the user's cache.

A file counts as the same while its path, size, times and inode are: the kernel sets the
time of the last change, which no program can turn back without a trace.
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

# A file this young may still change without its times moving on: clocks of file systems tick.
YOUNG_NS = 2 * 10**9

Stamp = list[int]


def stamp(status: os.stat_result) -> Stamp:
    """Return what changes when a file does."""
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev]


@dataclass(kw_only=True)
class Cache:
    """The known hashes under one folder."""

    path: Path
    known: dict[str, tuple[Stamp, str]] = field(default_factory=dict)
    fresh: dict[str, tuple[Stamp, str]] = field(default_factory=dict)

    def get(self, name: str, found: Stamp) -> str | None:
        """Return the hash of the file *name*, if it is as it was when it was read."""
        entry = self.known.get(name)
        if entry is None or list(entry[0]) != found:
            return None
        self.fresh[name] = entry
        return entry[1]

    def put(self, name: str, found: Stamp, digest: str) -> None:
        """Keep the hash of a file that was read and has been left alone for a while."""
        if time.time_ns() - max(found[1], found[2]) > YOUNG_NS:
            self.fresh[name] = (found, digest)

    def save(self) -> None:
        """Keep what is true of the files that are there."""
        if self.fresh == self.known:
            return
        with contextlib.suppress(OSError):  # A home that can't be written costs time only.
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_atomically(self.path, json.dumps(self.fresh))


def load(folder: Path) -> Cache:
    """Return what is known of the files under *folder*."""
    key = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()
    path = cache.folder("data") / f"{key}.json"
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        return Cache(path=path, known={n: (list(s), str(d)) for n, (s, d) in raw.items()})
    except (OSError, ValueError, TypeError, AttributeError):
        return Cache(path=path)
