"""
A digest of each record at the start of its run, in the user's cache, where no container can write.

While a command follows a run, it uses the record in its memory. But the record of a run whose
command died may have been changed by the container.
"""

import contextlib
import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

from samerun.core.errors import RecordError
from samerun.core.files import write_atomically
from samerun.core.record import Run
from samerun.host.machine import cache

# All fields that are used when a run is resumed, uploaded or compared.
FIELDS = (
    "name", "image", "code", "command", "launch", "arguments", "seed", "topology", "data",
    "secrets", "determinism", "reproduces", "written_by",
)  # fmt: skip
VERSION = "2"


def put(folder: Path, run: Run) -> None:
    """Store the digest of the record at the start of *run*."""
    path = _path(folder)
    with contextlib.suppress(OSError):  # Without a writable home folder there is no digest.
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomically(path, f"{VERSION}:{digest(run)}")


def verify(folder: Path, run: Run) -> None:
    """
    Refuse a record that was changed since the start; without a stored digest, accept it.

    Raises:
        RecordError: It was changed.
    """
    try:
        stored = _path(folder).read_text(encoding="utf-8")
    except OSError:
        return
    expected = f"{VERSION}:{digest(run)}" if ":" in stored else _digest_of_schema_1(run)
    if stored != expected:
        raise RecordError(
            f"The record in {folder} was changed since the run was started.",
            "Start a new run: samerun does not rerun commands from a changed record.",
        )


def digest(run: Run) -> str:
    """Return a hash of all fields in `FIELDS`."""
    raw = dataclasses.asdict(run)
    return _hash([raw[name] for name in FIELDS])


def _digest_of_schema_1(run: Run) -> str:
    """Return the digest as it was computed for records of schema 1."""
    raw = dataclasses.asdict(run)
    names = ("name", "arguments", "command", "seed", "code", "topology", "data")
    image = [run.image.reference, run.image.layers_digest]
    return _hash([image, *(raw[name] for name in names)])


def _hash(values: list[Any]) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


def _path(folder: Path) -> Path:
    key = hashlib.sha256(str(folder).encode()).hexdigest()
    return cache.folder("started") / key
