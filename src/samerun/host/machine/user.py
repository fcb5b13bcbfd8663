"""The user of a run in its container: the caller, and never root."""

import contextlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path

# The ID that minimal images use for an unprivileged user; no account has it.
NONROOT = 65532


def of_container(environ: Mapping[str, str] | None = None) -> tuple[int, int]:
    """
    Return uid and gid of a run's processes.

    The caller's own; for root, those of the user who called `sudo`, else `NONROOT`.
    """
    uid, gid = os.geteuid(), os.getegid()
    if uid != 0:
        return uid, gid
    values = os.environ if environ is None else environ
    uid, gid = _number(values.get("SUDO_UID")), _number(values.get("SUDO_GID"))
    return (uid, gid or uid) if uid else (NONROOT, NONROOT)


def of_folder(folder: Path) -> tuple[int, int]:
    """Return uid and gid for work in a run's *folder*: its owner's, unless that is root."""
    status = folder.stat()
    return (status.st_uid, status.st_gid) if status.st_uid else of_container()


def give(path: Path, owner: tuple[int, int]) -> None:
    """Set the owner of *path*, not of a link's target; only root can, others do nothing."""
    if os.geteuid() == 0:
        os.chown(path, *owner, follow_symlinks=False)


def disarm(folder: Path) -> None:
    """
    Clear the set-uid and set-gid bits of all files under *folder*.

    In the container they have no effect, but on the host they would give the caller's
    identity to every other user of the machine.
    """
    bits = stat.S_ISUID | stat.S_ISGID
    for place, _, names in os.walk(folder):
        for path in (Path(place, name) for name in names):
            with contextlib.suppress(OSError):
                mode = path.lstat().st_mode
                if stat.S_ISREG(mode) and mode & bits:
                    path.chmod(stat.S_IMODE(mode) & ~bits)


def _number(text: str | None) -> int:
    return int(text) if text and text.isascii() and text.isdigit() else 0
