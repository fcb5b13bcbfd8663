"""The W&B key: read on the host, passed to the container as a file on tmpfs, never shown."""

import contextlib
import fcntl
import mmap
import netrc
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from samerun.core import contract, files
from samerun.core.errors import KeyFileError
from samerun.host.tracking import server

# In memory on every Linux; elsewhere the key is in a private temporary folder.
TMPFS = Path("/dev/shm")  # noqa: S108
_PREFIX = "samerun-"


@dataclass(frozen=True, kw_only=True)
class Key:
    """A key and its source; no ``repr`` shows its value."""

    value: str = field(repr=False)
    source: str


def find(file: Path | None = None) -> Key | None:
    """
    Return the key from *file*, ``WANDB_API_KEY`` or the netrc file, in this order.

    Raises:
        KeyFileError: *file* can't be read, or does not hold exactly one key.
    """
    if file is not None:
        return Key(value=_read(file), source=str(file))
    value = os.environ.get("WANDB_API_KEY", "").strip()
    if value:
        return Key(value=value, source="WANDB_API_KEY")
    return _from_netrc(Path(os.environ.get("NETRC", "~/.netrc")).expanduser())


def _read(file: Path) -> str:
    try:
        value = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise KeyFileError(
            f"--api-key-file {file} can't be read: {type(error).__name__}.",
            "Check its path and permissions.",
        ) from error
    if not value or len(value.split()) != 1:
        raise KeyFileError(
            f"--api-key-file {file} must hold one key and nothing else.",
            "Write the key from your W&B settings to it, on one line.",
        )
    return value


def _from_netrc(path: Path) -> Key | None:
    try:
        entry = netrc.netrc(str(path)).authenticators(server.host())
    except (OSError, netrc.NetrcParseError):
        return None
    return Key(value=entry[2], source=str(path)) if entry and entry[2] else None


@contextlib.contextmanager
def lent(key: Key | None, uid: int, gid: int) -> Iterator[Path | None]:
    """
    Yield a netrc file with *key* that only *uid* can read; it is deleted afterwards.

    wandb reads the netrc file itself, so the key is in no process's environment.
    """
    if key is None:
        yield None
        return
    with _locked_folder() as folder:
        path = folder / "netrc"
        _write_once(path, f"machine {server.host()}\n  login user\n  password {key.value}\n")
        _set_owner(path, uid, gid)
        yield path


def _parent() -> Path:
    return TMPFS if os.access(TMPFS, os.W_OK) else Path(tempfile.gettempdir())


@contextlib.contextmanager
def _locked_folder() -> Iterator[Path]:
    """Create a folder that is locked while this process lives, and deleted at the end."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=_parent()))
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():  # Another command may have taken it for a leftover until now.
            break
        os.close(lock)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def remove_leftovers(in_use: Collection[Path]) -> None:
    """
    Remove the key files of commands that were killed.

    Those *in_use*, by containers that still run, are kept.
    """
    for folder in _parent().glob(f"{_PREFIX}*"):
        if folder / "netrc" not in in_use:
            with contextlib.suppress(OSError):  # It is another user's, or is being removed.
                _remove_unlocked(folder)


def _remove_unlocked(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if {path.name for path in folder.iterdir()} <= {"netrc"}:
            shutil.rmtree(folder)
    finally:
        os.close(descriptor)


def _write_once(path: Path, text: str) -> None:
    # Through the descriptor that creates it, because only root can reopen a file of mode 0400.
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o400)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)


def _set_owner(path: Path, uid: int, gid: int) -> None:
    if os.geteuid() == 0:
        os.chown(path.parent, uid, gid)
        os.chown(path, uid, gid)


def redact(folder: Path, key: Key | None) -> None:
    """
    Overwrite the key in all logs under *folder* with asterisks.

    wandb 0.31 writes its settings, including the key, to its internal log if a script sets
    WANDB_DEBUG. Links are not followed, because a run may have created them.
    """
    for path in folder.rglob("*") if key is not None else ():
        if path.suffix == ".log" or path.name == contract.LOG:
            with contextlib.suppress(OSError, ValueError):  # ValueError: the file is empty.
                _mask(path, key.value.encode() if key else b"")


def _mask(path: Path, value: bytes) -> None:
    with files.open_plain(path, os.O_RDWR) as file, mmap.mmap(file.fileno(), 0) as content:
        at = content.find(value)
        while at >= 0:
            content[at : at + len(value)] = b"*" * len(value)
            at = content.find(value, at)
