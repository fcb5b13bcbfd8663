"""
The folder that `invoke sync` mounts in the container with the key: safe copies of a run's files.

During an upload, wandb follows links in W&B's folders, writes to them, and reads settings next
to them. So the run's folder is mounted read-only, and what is uploaded lies in a folder of the
host's cache: plain files, with a link within the run replaced by its target, and a log that the
module ``samerun.train.hooks.wandb_outbox`` writes there.
"""

import errno
import hashlib
import json
import math
import os
import re
import shutil
import stat
import time
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from samerun.core import contract
from samerun.core.errors import RecordError
from samerun.host.machine import cache, user

# wandb's names of run folders.
_RUN_FOLDER = re.compile(r"(offline-)?run-[A-Za-z0-9_-]+")

TARGET = "/outbox"
"""Where the folder is mounted."""
LOGS = f"{TARGET}/offline-run-20000101_000000-outbox"
"""W&B's folder in it; the container's module has the same name."""
REQUEST = "request.json"
"""What the server has, for that module."""


def folder_of(folder: Path, run_id: str) -> Path:
    """Return the outbox of the W&B run *run_id* of the run in *folder*."""
    return _all_of(folder) / hashlib.sha256(run_id.encode()).hexdigest()


def _all_of(folder: Path) -> Path:
    return cache.folder("outbox") / hashlib.sha256(str(folder).encode()).hexdigest()


def age(outbox: Path) -> float:
    """Return the seconds since an earlier sync began to send; infinity if none did."""
    try:
        return time.time() - (outbox / REQUEST).stat().st_mtime
    except FileNotFoundError:
        return math.inf


def fill(
    folder: Path, dirs: Sequence[str], outbox: Path, request: dict[str, Any], owner: tuple[int, int]
) -> None:
    """
    Link all files of one W&B run into *outbox*; *dirs* are the container's paths of its folders.

    Raises:
        RecordError: One of them is not a W&B folder, or has a link that points out of the run.
    """
    shutil.rmtree(outbox, ignore_errors=True)
    target = outbox / PurePosixPath(LOGS).name / "files"
    for place in (outbox, target.parent, target):
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        user.give(place, owner)
    for name in dirs:
        source = _source(folder, name) / "files"
        if stat.S_ISDIR(_mode(source)):
            _copy(folder, source, target, owner)
    (outbox / REQUEST).write_text(json.dumps(request), encoding="utf-8")
    user.give(outbox / REQUEST, owner)


def _mode(path: Path) -> int:
    try:
        return path.lstat().st_mode
    except FileNotFoundError:
        return 0


def forget(folder: Path) -> None:
    """Remove the copies of the run in *folder*, after a complete upload."""
    shutil.rmtree(_all_of(folder), ignore_errors=True)


def _source(folder: Path, name: str) -> Path:
    parts = PurePosixPath(name).parts
    inside = Path(*parts[2:]) if parts[:2] == ("/", "output") else None
    if inside is None or ".." in parts or not _RUN_FOLDER.fullmatch(inside.name):
        raise _refusal(folder, f"{name} is not one of its W&B folders")
    source = folder / inside
    if not stat.S_ISDIR(source.lstat().st_mode) or source.resolve() != folder.resolve() / inside:
        raise _refusal(folder, f"{inside} is a link")
    return source


def _copy(folder: Path, source: Path, target: Path, owner: tuple[int, int]) -> None:
    for path in _files(source):
        place = target / path.relative_to(source)
        for parent in reversed(place.relative_to(target).parents[:-1]):
            (target / parent).mkdir(exist_ok=True, mode=0o700)
            user.give(target / parent, owner)
        _link(_followed(folder, path), place)


def _files(folder: Path) -> Iterator[Path]:
    """Yield plain files and links below *folder*; links to folders are not followed."""
    for place, _, names in os.walk(folder, followlinks=False):
        for name in names:
            path = Path(place) / name
            mode = path.lstat().st_mode
            if stat.S_ISREG(mode) or stat.S_ISLNK(mode):
                yield path


def _followed(folder: Path, path: Path) -> Path:
    """Return *path*, or for a link its target, which must be a plain file within the run."""
    if not path.is_symlink():
        return path
    # `wandb.save` creates links to files of the run, with the container's paths.
    lead = PurePosixPath(path.readlink())
    output = PurePosixPath(contract.OUTPUT)
    led = folder / lead.relative_to(output) if lead.is_relative_to(output) else path.parent / lead
    root = folder.resolve()
    if (
        not led.resolve().is_relative_to(root)
        or Path(os.path.normpath(led)).resolve() != led.resolve()
    ):
        raise _refusal(folder, f"{path.relative_to(folder)} is a link out of it, to {lead}")
    if not led.is_file():
        raise _refusal(folder, f"{path.relative_to(folder)} is a link to {lead}, which is no file")
    return led.resolve()


def _link(source: Path, target: Path) -> None:
    """Create *target* as a hard link to *source*, or as a copy if that fails."""
    target.unlink(missing_ok=True)  # Of the same file, the newest start's is uploaded.
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK):
            raise
        shutil.copy2(source, target, follow_symlinks=False)


def _refusal(folder: Path, why: str) -> RecordError:
    return RecordError(
        f"Nothing of {folder} was uploaded: {why}.",
        "A normal run does not create this: inspect it, remove it, and run `invoke sync` again.",
    )
