"""
The folders that `invoke sync` mounts in the container with the key: safe copies of a run's.

During an upload, wandb writes to W&B's folders in the run's folder, follows links there, and
reads settings next to them. So the run's folder is mounted read-only, and over each W&B folder a
copy with only plain files; a link within the run is replaced by its target.
"""

import errno
import hashlib
import os
import re
import shutil
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from samerun.core import contract
from samerun.core.errors import RecordError
from samerun.core.record import Mount
from samerun.host.machine import cache, user

# wandb's names of run folders.
_RUN_FOLDER = re.compile(r"(offline-)?run-[A-Za-z0-9_-]+")


def mounts(folder: Path, dirs: Sequence[str], owner: tuple[int, int]) -> tuple[Mount, ...]:
    """
    Return the mounts for the run in *folder*; *dirs* are the container's paths of W&B folders.

    The copies are kept: wandb records the progress of an upload in them, so a killed upload
    continues and sends nothing twice.

    Raises:
        RecordError: One of them is not a W&B folder, or has a link that points out of the run.
    """
    key = hashlib.sha256(str(folder).encode()).hexdigest()
    result = [Mount(source=str(folder), target=contract.OUTPUT)]
    for name in dirs:
        source = _source(folder, name)
        target = cache.folder("outbox") / key / source.name
        _copy(folder, source, target, owner)
        result.append(Mount(source=str(target), target=name, read_only=False))
    return tuple(result)


def forget(folder: Path) -> None:
    """Remove the copies of the run in *folder*, after a complete upload."""
    key = hashlib.sha256(str(folder).encode()).hexdigest()
    shutil.rmtree(cache.folder("outbox") / key, ignore_errors=True)


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
    target.mkdir(parents=True, exist_ok=True, mode=0o700)
    user.give(target, owner)
    for path in _files(source):
        # wandb's own logs are links to where the machine keeps them; none is uploaded.
        if path.is_symlink() and path.relative_to(source).parts[0] == "logs":
            continue
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
    try:
        same = target.lstat()
        if (same.st_size, same.st_mtime_ns) == _stamp(source):
            return
        target.unlink()
    except FileNotFoundError:
        pass
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK):
            raise
        shutil.copy2(source, target, follow_symlinks=False)


def _stamp(path: Path) -> tuple[int, int]:
    status = path.lstat()
    return status.st_size, status.st_mtime_ns


def _refusal(folder: Path, why: str) -> RecordError:
    return RecordError(
        f"Nothing of {folder} was uploaded: {why}.",
        "A normal run does not create this: inspect it, remove it, and run `invoke sync` again.",
    )
