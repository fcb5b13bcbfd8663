"""A data folder: its checks and the fingerprint of its content."""

import functools
import os
import shlex
import stat
from collections.abc import Sequence
from pathlib import Path

from samerun.core import content, contract
from samerun.core.errors import DataError
from samerun.core.record import Data
from samerun.host.launch import data_cache

# System folders, whose content would give a run control over the machine.
SYSTEM = ("/", "/boot", "/dev", "/etc", "/proc", "/root", "/run", "/sys", "/var", "/var/lib")


def fingerprint_folder(folder: Path, listed: Sequence[Path] | None = None) -> Data:
    """
    Return *folder* with the fingerprint of its content; *listed* are its files, if known.

    Raises:
        DataError: `list_files` refuses the folder, or a file can't be read.
    """
    files = list_files(folder) if listed is None else list(listed)
    return Data(
        source=str(folder.resolve()),
        target=contract.DATA,
        fingerprint=fingerprint(folder, files),
        files=len(files),
        size_bytes=content.size(files),
    )


def list_files(folder: Path) -> list[Path]:
    """
    Return all files under *folder*, sorted.

    Raises:
        DataError: It does not exist, is not a folder, is a system folder, or has no files.
    """
    if str(folder.resolve()) in SYSTEM or folder.resolve().is_relative_to("/proc"):
        raise DataError(
            f"--data {folder} is a system folder, which a run must not see.",
            "Give a folder that holds only data, without passwords, devices or sockets.",
        )
    if not folder.is_dir():
        kind = "is not a folder" if folder.exists() else "does not exist"
        raise DataError(f"--data {folder} {kind}.", "Give the folder that holds the data.")
    refuse_links(folder)
    files = content.files(folder)
    if not files:
        raise DataError(
            f"--data {folder} contains no files.", "Check that the data is mounted or downloaded."
        )
    return files


def refuse_links(folder: Path) -> None:
    """
    Refuse links that resolve differently in the container and on the host.

    A relative link within the folder has the same target, or none, on both.

    Raises:
        DataError: A link points out of the folder, or to a folder, whose files would be
            missing in the fingerprint.
    """
    root = folder.resolve()
    for place, folders, names in os.walk(folder):
        for name in (*folders, *names):
            path = Path(place, name)
            if path.is_symlink():
                _refuse_link(root, path)


def _refuse_link(root: Path, path: Path) -> None:
    lead = path.readlink()
    inner = Path(os.path.normpath(path.parent.resolve() / lead))
    if path.is_dir():
        problem = "is a link to a folder"
    elif lead.is_absolute() or not inner.is_relative_to(root):
        problem = f"is a link that points out of the folder, to {lead}"
    else:
        return
    raise DataError(
        f"{path} {problem}, so the run would not see its target.",
        "Replace it with a copy of its target (`cp -rL`), or give the folder with the files.",
    )


def check_readable(files: Sequence[Path], owner: tuple[int, int]) -> None:
    """
    Refuse files that the run's user *owner* can't read although the caller (root) can.

    Raises:
        DataError: There is such a file or folder; the message names the first.
    """
    if os.geteuid() != 0:
        return  # The run's user is the caller, so computing the fingerprint checks this.
    for path in (*dict.fromkeys(file.parent for file in files), *files):
        if not _is_readable(path.stat(), owner):
            raise DataError(
                f"{path} can't be read by the run, which has uid {owner[0]}, not root.",
                f"Make it readable (`chmod -R o+rX {shlex.quote(str(path))}`), or train as its "
                "owner.",
            )


def _is_readable(status: os.stat_result, owner: tuple[int, int]) -> bool:
    """Whether *owner* may read the file, or read and enter the folder, of *status*."""
    required = 0o5 if stat.S_ISDIR(status.st_mode) else 0o4
    if status.st_uid == owner[0]:
        return status.st_mode >> 6 & required == required
    shift = 3 if status.st_gid == owner[1] else 0
    return status.st_mode >> shift & required == required


def fingerprint(folder: Path, files: list[Path]) -> str:
    """
    Return the SHA-256 of relative names and contents.

    Files are hashed in parallel; unchanged files are not read again.
    """
    cache = data_cache.load(folder)
    names = content.names(folder, files)
    known = [_known(cache, name, path) for name, path in zip(names, files, strict=True)]
    unknown = [path for path, digest in zip(files, known, strict=True) if digest is None]
    read = content.hash_all(unknown, functools.partial(_read_and_keep, cache, folder))
    contents = [next(read) if digest is None else digest for digest in known]
    cache.save()
    return content.combine(names, contents)


def _known(cache: data_cache.Cache, name: str, path: Path) -> str | None:
    known = cache.get(name, data_cache.stamp(path.stat()))
    return known if os.access(path, os.R_OK) else None


def _read_and_keep(cache: data_cache.Cache, folder: Path, path: Path) -> str:
    before = data_cache.stamp(path.stat())
    digest = _hash(path)
    if data_cache.stamp(path.stat()) == before:
        cache.put(str(path.relative_to(folder)), before, digest)
    return digest


def _hash(path: Path) -> str:
    try:
        return content.hash_file(path)
    except OSError as error:
        raise DataError(
            f"{path} can't be read: {error.strerror}.", "Check its permissions."
        ) from error
