"""
What `invoke sync` shows to the container that has the key: copies that no run can have prepared.

wandb writes into a run's folder while it uploads, follows links there, and reads settings beside
it. So it gets the run's folder read-only and, over each W&B folder, a copy made here: plain files,
and links only as what they lead to within the run.
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

# wandb's own names of a run's folder.
_RUN_FOLDER = re.compile(r"(offline-)?run-[A-Za-z0-9_-]+")


def mounts(folder: Path, dirs: Sequence[str], owner: tuple[int, int]) -> tuple[Mount, ...]:
    """
    Return the mounts for *dirs*, W&B folders as the container names them, of the run in *folder*.

    The copies stay: wandb notes in them how far an upload came, so that one that was killed
    continues and sends nothing twice.

    Raises:
        RecordError: One of them is no W&B folder, or holds a link that leads out of the run.
    """
    key = hashlib.sha256(str(folder).encode()).hexdigest()
    made = [Mount(source=str(folder), target=contract.OUTPUT)]
    for name in dirs:
        source = _source(folder, name)
        target = cache.folder("outbox") / key / source.name
        _copy(folder, source, target, owner)
        made.append(Mount(source=str(target), target=name, read_only=False))
    return tuple(made)


def forget(folder: Path) -> None:
    """Remove the copies of the run in *folder*, which the server has completely."""
    key = hashlib.sha256(str(folder).encode()).hexdigest()
    shutil.rmtree(cache.folder("outbox") / key, ignore_errors=True)


def _source(folder: Path, name: str) -> Path:
    parts = PurePosixPath(name).parts
    inside = Path(*parts[2:]) if parts[:2] == ("/", "output") else None
    if inside is None or ".." in parts or not _RUN_FOLDER.fullmatch(inside.name):
        raise _refusal(folder, f"{name} is not a W&B folder of it")
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
    """Yield plain files and links below *folder*; folders that are links are not entered."""
    for place, _, names in os.walk(folder, followlinks=False):
        for name in names:
            path = Path(place) / name
            mode = path.lstat().st_mode
            if stat.S_ISREG(mode) or stat.S_ISLNK(mode):
                yield path


def _followed(folder: Path, path: Path) -> Path:
    """Return the file itself, or the plain file within the run that the link *path* leads to."""
    if not path.is_symlink():
        return path
    # `wandb.save` links files of the run, by the container's paths.
    lead = PurePosixPath(path.readlink())
    output = PurePosixPath(contract.OUTPUT)
    led = folder / lead.relative_to(output) if lead.is_relative_to(output) else path.parent / lead
    root = folder.resolve()
    if (
        not led.resolve().is_relative_to(root)
        or Path(os.path.normpath(led)).resolve() != led.resolve()
    ):
        raise _refusal(folder, f"{path.relative_to(folder)} leads out of it, to {lead}")
    if not led.is_file():
        raise _refusal(folder, f"{path.relative_to(folder)} leads to {lead}, which is not a file")
    return led.resolve()


def _link(source: Path, target: Path) -> None:
    """Make *target* the content of *source*: by a hard link, else by a copy."""
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
        "A run that is only what it seems leaves no such thing; look at it, remove it, then "
        "sync again.",
    )
