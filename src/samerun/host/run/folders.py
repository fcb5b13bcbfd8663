"""A run's folder on the host: created once, locked by one command, with the final record."""

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from samerun.core import contract, parts, record, surroundings
from samerun.core.errors import OutputError, RunBusy
from samerun.core.record import Run
from samerun.host.machine import user

# Space reserved in the folder, so that the final record can be written to a full disk.
RESERVE_BYTES = contract.FULL_BYTES
# Checking whether a folder is locked locks it for a moment.
PATIENCE_S = 1.0


def make(folder: Path, patch: bytes, owner: tuple[int, int]) -> None:
    """
    Create the run's folder and its first files, owned by the run's user.

    Raises:
        OutputError: It already exists, or can't be written.
    """
    new = [p for p in (folder, *folder.parents) if not p.exists()]
    try:
        folder.mkdir(parents=True)
        if patch:
            (folder / contract.PATCH).write_bytes(patch)
        for path in (*new, *folder.iterdir()):
            user.give(path, owner)
    except OSError as error:
        raise OutputError(
            f"{folder} can't be written: {error.strerror}.", "Choose another --output."
        ) from error


@contextlib.contextmanager
def held(folder: Path, patience_s: float = PATIENCE_S) -> Iterator[None]:
    """
    Lock *folder* for this process; the kernel releases the lock when the process dies.

    Raises:
        RunBusy: Another command has locked it.
    """
    # The lock is on the folder itself, because the container could replace a file in it.
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    if not _try_lock(descriptor, patience_s):
        os.close(descriptor)
        raise RunBusy(
            f"{folder} is locked by another samerun command.",
            f"Follow the run with `invoke logs {folder.name} -f`, stop it with "
            f"`invoke stop {folder.name}`, or wait.",
        )
    try:
        yield
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int, patience_s: float) -> bool:
    until = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                return False
            time.sleep(0.05)
        else:
            return True


def is_held(folder: Path) -> bool:
    """Whether another command has locked *folder*."""
    try:
        with held(folder, 0):
            return False
    except RunBusy:
        return True


def reserve(folder: Path, owner: tuple[int, int]) -> None:
    """Reserve disk space for the final record."""
    path = folder / contract.RESERVE
    with contextlib.suppress(OSError):  # The run may have created anything there.
        path.unlink(missing_ok=True)
        with path.open("xb") as file:
            file.write(os.urandom(RESERVE_BYTES))  # Random bytes can't be compressed.
        user.give(path, owner)


def write(folder: Path, run: Run, owner: tuple[int, int]) -> None:
    """Write the record, owned by the run's user."""
    record.write(folder, run)
    user.give(folder / contract.RECORD, owner)


def open_log(folder: Path, owner: tuple[int, int]) -> BinaryIO:
    """
    Open the log for appending, without following a link that the run may have created.

    Raises:
        OutputError: The path is not a writable file.
    """
    path = folder / contract.LOG
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags, 0o644)
    except OSError as error:
        raise OutputError(
            f"{path} can't be written: {error.strerror}.", "Remove it, or make it writable."
        ) from error
    user.give(path, owner)
    return os.fdopen(
        descriptor, "ab", buffering=0
    )  # Unbuffered, so that a full disk does not fail on close.


def finish(folder: Path, run: Run, owner: tuple[int, int]) -> Run:
    """Write the final record, with all reports of the container."""
    run = parts.assemble(folder, run)
    for name in (contract.RESERVE, contract.STOP):
        with contextlib.suppress(OSError):  # The run may have created anything there.
            (folder / name).unlink(missing_ok=True)
    user.disarm(folder)
    try:
        write(folder, run, owner)
    except OSError as error:
        raise OutputError(
            f"The record can't be written to {folder}: {error.strerror}; "
            f"the run ended with exit code {run.outcome.exit_code}.",
            f"{_remedy(error)} Then run `invoke runs`, which completes the record: the container "
            "is kept.",
        ) from error
    return run


def _remedy(error: OSError) -> str:
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return "Free space on that disk."
        case errno.EROFS:
            return "Its file system is read-only: check the disk, and mount it writable."
    return "Make the folder writable."


def check_room(folder: Path) -> None:
    """
    Refuse a folder whose disk has no space for another start.

    Raises:
        OutputError: There is too little space.
    """
    status = os.statvfs(folder)
    free = status.f_bavail * status.f_frsize
    if free < LEAST_FREE_BYTES or surroundings.is_full(folder):
        raise OutputError(
            f"Only {free / 2**20:.0f} MiB are free under {folder}, or it has no free inodes.",
            "Free space, or choose another --output.",
        )


def ask_to_stop(folder: Path) -> None:
    """Create the file that prevents the command that follows the run from restarting it."""
    with contextlib.suppress(FileExistsError), (folder / contract.STOP).open("x"):
        pass


def is_asked_to_stop(folder: Path) -> bool:
    """Whether that file exists."""
    return os.path.lexists(folder / contract.STOP)


def forget_failure(folder: Path) -> None:
    """Remove the failure reports of the last start, before the next one."""
    reports = folder / contract.PARTS
    if not reports.is_symlink():
        with contextlib.suppress(OSError):
            for path in reports.glob("failure-*.json"):
                path.unlink(missing_ok=True)


def shown(folder: Path) -> str:
    """Return *folder* relative to the current one if it is inside."""
    try:
        return str(folder.relative_to(Path.cwd()))
    except ValueError:
        return str(folder)


def folder_of(name: str, output: str = "runs") -> Path:
    """Return the folder of a run given by its path or its name; OutputError if none."""
    for path in (Path(name), Path(output) / name):
        if (path / "run.json").is_file():
            return path.resolve()
    raise OutputError(
        f"There is no run {name!r} here or in {output}/.",
        "Give its folder; `invoke runs` lists the runs.",
    )


LEAST_FREE_BYTES = 100 * 2**20


def free_folder(output: Path, name: str) -> Path:
    """
    Return the run's folder, which must not exist yet; nothing is created.

    Raises:
        OutputError: It exists, its parent is not writable, or its disk is full.
    """
    folder = output.expanduser().resolve() / name
    if folder.exists():
        raise OutputError(f"The run's folder {folder} already exists.", "Choose another --name.")
    existing = next(p for p in folder.parents if p.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise OutputError(
            f"You have no permission to write to {existing}.", "Choose another --output."
        )
    check_room(existing)
    return folder
