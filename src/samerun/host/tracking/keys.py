"""The W&B key: found on the host, handed over as a file on tmpfs, shown nowhere."""

import contextlib
import mmap
import netrc
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from samerun.core import contract, files
from samerun.core.errors import KeyFileError
from samerun.host.tracking import server

# Memory-backed on every Linux; elsewhere the key lies in a private temporary folder.
TMPFS = Path("/dev/shm")  # noqa: S108


@dataclass(frozen=True, kw_only=True)
class Key:
    """A key and where it was found; its value is in no ``repr``."""

    value: str = field(repr=False)
    source: str


def find(file: Path | None = None) -> Key | None:
    """
    Return the key from *file*, ``WANDB_API_KEY`` or the netrc file, in this order.

    Raises:
        KeyFileError: *file* can't be read or is empty.
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
            "Check its path and its rights.",
        ) from error
    if not value or len(value.split()) != 1:
        raise KeyFileError(
            f"--api-key-file {file} must hold one key and nothing else.",
            "Copy the key from W&B's settings into it, on one line.",
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
    Yield a netrc file with *key* that *uid* alone can read; it is gone afterwards.

    wandb reads netrc itself, so the key is in no process's environment either.
    """
    if key is None:
        yield None
        return
    place = TMPFS if os.access(TMPFS, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="samerun-", dir=place) as folder:
        path = Path(folder) / "netrc"
        _write_once(path, f"machine {server.host()}\n  login user\n  password {key.value}\n")
        _hand_over(path, uid, gid)
        yield path


def _write_once(path: Path, text: str) -> None:
    # Through the descriptor that made the file: nobody but root may open one of mode 0400 again.
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o400)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)


def _hand_over(path: Path, uid: int, gid: int) -> None:
    if os.geteuid() == 0:
        os.chown(path.parent, uid, gid)
        os.chown(path, uid, gid)


def redact(folder: Path, key: Key | None) -> None:
    """
    Star the key out of all logs under *folder*.

    wandb 0.31 writes its settings, and the key in them, to its internal log once a
    script sets WANDB_DEBUG. Links are not followed: a run may have laid them.
    """
    for path in folder.rglob("*") if key is not None else ():
        if path.suffix == ".log" or path.name == contract.LOG:
            with contextlib.suppress(OSError, ValueError):  # ValueError: the file is empty.
                _star_out(path, key.value.encode() if key else b"")


def _star_out(path: Path, value: bytes) -> None:
    with files.open_plain(path, os.O_RDWR) as file, mmap.mmap(file.fileno(), 0) as content:
        at = content.find(value)
        while at >= 0:
            content[at : at + len(value)] = b"*" * len(value)
            at = content.find(value, at)
