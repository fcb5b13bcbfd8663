"""
Checkpoints on disk: written atomically, checked before use.

``FIT-EPOCH-BATCH.pt`` is written by ``torch.save``. The ``.json`` file next to it, written
last, holds its SHA-256 and makes it valid. A kill leaves a file without its JSON, which is
ignored.
"""

import hashlib
import json
import os
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import torch

FORMAT = 2
DONE_KEPT = 20


@dataclass(frozen=True, kw_only=True, order=True)
class Position:
    """
    A position in a training: *epoch* epochs and *batch* batches of *fit* (of *learner*) are done.

    *done* is the end of a fit, after all callbacks have run.
    """

    fit: int
    done: bool
    epoch: int
    batch: int
    learner: int = 0

    @property
    def name(self) -> str:
        """Name of the files, without suffix; names sort in the order of positions."""
        return f"{self.fit:03d}-{'end' if self.done else f'{self.epoch:05d}-{self.batch:07d}'}"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A checkpoint's JSON: its position, and the expected hash and size of its file."""

    place: Position
    path: Path
    sha256: str
    bytes: int


class Store:
    """
    The checkpoints in *folder*: the last *keep* of the current fit, and the end of each other.

    With *epochs*, the last one from the end of an epoch is also kept, because another number
    of processes can resume only from there.
    """

    def __init__(self, folder: Path, keep: int, *, epochs: bool = False) -> None:
        self.folder, self._keep, self._epochs = folder, keep, epochs

    def write(self, place: Position, state: dict[str, Any]) -> Entry:
        """Write a checkpoint, then remove those that are no longer needed."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{place.name}.pt"
        writer = _Hashing()
        _atomically(path, lambda file: torch.save({"format": FORMAT, **state}, writer.to(file)))
        entry = Entry(place=place, path=path, sha256=writer.digest(), bytes=writer.bytes)
        description = {**asdict(place), "sha256": entry.sha256, "bytes": entry.bytes}
        description["written"] = round(time.time(), 3)
        text = json.dumps(description, indent=2) + "\n"
        _atomically(path.with_suffix(".json"), lambda file: file.write(text.encode()))
        self._drop(place)
        return entry

    def entries(self) -> list[Entry]:
        """Return all valid checkpoints, in the order of their positions."""
        entries = [entry for path in self.folder.glob("*.json") if (entry := _entry(path))]
        return sorted(entries, key=lambda entry: entry.place)

    def load(self, entry: Entry) -> dict[str, Any] | None:
        """Return the state, on the host; None, and a line on stderr, if the file is damaged."""
        try:
            if _sha256(entry.path) == entry.sha256:
                state = torch.load(entry.path, map_location="cpu", weights_only=True)
                return dict(state)
            problem = "its checksum differs"
        except OSError as error:
            problem = error.strerror or str(error)
        sys.stderr.write(f"samerun: ignoring checkpoint {entry.path.name}: {problem}.\n")
        return None

    def discard_after(self, place: Position) -> None:
        """Remove all checkpoints after *place*, because the training rewrites them."""
        for entry in self.entries():
            if entry.place > place:
                _remove(entry.path)

    def _drop(self, newest: Position) -> None:
        entries = self.entries()
        running = [e for e in entries if e.place.fit == newest.fit and not e.place.done]
        ends = [e for e in entries if e.place.done and e.place.learner == newest.learner]
        unneeded = running if newest.done else running[: -self._keep]
        if self._epochs and not newest.done:
            last = [e for e in running if not e.place.batch][-1:]
            unneeded = [e for e in unneeded if e not in last]
        for entry in [*unneeded, *ends[:-DONE_KEPT]]:
            _remove(entry.path)
        for torn in self.folder.glob(".*.part"):
            torn.unlink(missing_ok=True)


class _Hashing:
    """A write-only file that hashes its content."""

    def __init__(self) -> None:
        self._sha256, self.bytes = hashlib.sha256(), 0
        self._file: IO[bytes] | None = None

    def to(self, file: IO[bytes]) -> "_Hashing":
        self._file = file
        return self

    def write(self, data: Any) -> int:
        assert self._file is not None
        self._sha256.update(data)
        self.bytes += len(data)
        return self._file.write(data)

    def flush(self) -> None:
        """Do nothing; the file is flushed at the end."""

    def digest(self) -> str:
        return self._sha256.hexdigest()


def _entry(path: Path) -> Entry | None:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        place = Position(**{name: raw[name] for name in Position.__dataclass_fields__})
        data = path.with_suffix(".pt")
        return Entry(place=place, path=data, sha256=raw["sha256"], bytes=raw["bytes"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _atomically(path: Path, write: Any) -> None:
    temporary = path.with_name(f".{path.name}.part")
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        # On a full disk, the partial file would take up the remaining space.
        temporary.unlink(missing_ok=True)
        raise
    # The new name must also survive a power failure.
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _remove(path: Path) -> None:
    path.with_suffix(".json").unlink(missing_ok=True)
    path.unlink(missing_ok=True)
