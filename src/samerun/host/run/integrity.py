"""
What was started in a folder, kept where no container can write: in the user's cache.

While a command follows a run, its memory counts, not the record. Only a run whose command
died leaves its record to whoever wrote there last, and that may have been the container.
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

# All that is taken from a record when a run is started again, sent or compared.
FIELDS = (
    "name", "image", "code", "command", "launch", "arguments", "seed", "topology", "data",
    "secrets", "determinism", "reproduces", "written_by",
)  # fmt: skip
VERSION = "2"


def put(folder: Path, run: Run) -> None:
    """Keep what *run* was started with."""
    place = _place(folder)
    with contextlib.suppress(OSError):  # A home that can't be written: there is no seal then.
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomically(place, f"{VERSION}:{digest(run)}")


def verify(folder: Path, run: Run) -> None:
    """
    Refuse a record that is not what was started; on another machine nothing is known.

    Raises:
        RecordError: It was changed.
    """
    try:
        kept = _place(folder).read_text(encoding="utf-8")
    except OSError:
        return
    expected = f"{VERSION}:{digest(run)}" if ":" in kept else _digest_of_schema_1(run)
    if kept != expected:
        raise RecordError(
            f"The record in {folder} was changed since the run was started.",
            "Nothing of it is run again; start a new run.",
        )


def digest(run: Run) -> str:
    """Return a hash over all that is taken from the record."""
    raw = dataclasses.asdict(run)
    return _hash([raw[name] for name in FIELDS])


def _digest_of_schema_1(run: Run) -> str:
    """Return the same as it was kept of runs that were started with records of schema 1."""
    raw = dataclasses.asdict(run)
    names = ("name", "arguments", "command", "seed", "code", "topology", "data")
    image = [run.image.reference, run.image.layers_digest]
    return _hash([image, *(raw[name] for name in names)])


def _hash(values: list[Any]) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


def _place(folder: Path) -> Path:
    key = hashlib.sha256(str(folder).encode()).hexdigest()
    return cache.folder("started") / key
