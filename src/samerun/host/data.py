"""A data folder: there, not empty, and known by its content."""

import functools
import hashlib
import os
import shlex
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from samerun import contract
from samerun.errors import DataError
from samerun.host import datacache
from samerun.record import Data

# Folders whose content would give a run a hold on the machine.
SYSTEM = ("/", "/boot", "/dev", "/etc", "/proc", "/root", "/run", "/sys", "/var", "/var/lib")


def describe(folder: Path) -> Data:
    """
    Return *folder* with the fingerprint of its content.

    Raises:
        DataError: As `list_files`, or a file can't be read.
    """
    files = list_files(folder)
    return Data(
        source=str(folder.resolve()),
        target=contract.DATA,
        fingerprint=fingerprint(folder, files),
        files=len(files),
        size_bytes=sum(file.stat().st_size for file in files),
    )


def list_files(folder: Path) -> list[Path]:
    """
    Return all files under *folder*, sorted.

    Raises:
        DataError: It does not exist, is no folder or the system's, or holds no file.
    """
    if str(folder.resolve()) in SYSTEM or folder.resolve().is_relative_to("/proc"):
        raise DataError(
            f"--data {folder} is a folder of the system, not of data.",
            "A run must not see it: it holds passwords, devices or the engine's socket.",
        )
    if not folder.is_dir():
        kind = "is not a folder" if folder.exists() else "does not exist"
        raise DataError(f"--data {folder} {kind}.", "Give the folder that holds the data.")
    found = (Path(root) / name for root, _, names in os.walk(folder) for name in names)
    files = sorted(path for path in found if path.is_file())
    if not files:
        raise DataError(f"--data {folder} holds no file.", "Is it mounted or downloaded?")
    return files


def check_readable(files: list[Path], owner: tuple[int, int]) -> None:
    """
    Refuse what the run's user *owner* could not read, though the caller (root) can.

    Raises:
        DataError: The first such file or folder, with its rights.
    """
    if os.geteuid() != 0:
        return  # The run's user is the caller: reading for the fingerprint is the check.
    for path in (*dict.fromkeys(file.parent for file in files), *files):
        if not _is_readable(path.stat(), owner):
            raise DataError(
                f"{path} can't be read by the run, which is not root but uid {owner[0]}.",
                f"Let others read it (`chmod -R o+rX {shlex.quote(str(path))}`), or train as "
                "its owner.",
            )


def _is_readable(status: os.stat_result, owner: tuple[int, int]) -> bool:
    """Whether *owner* may read the file, or read and enter the folder, of *status*."""
    wanted = 0o5 if stat.S_ISDIR(status.st_mode) else 0o4
    if status.st_uid == owner[0]:
        return status.st_mode >> 6 & wanted == wanted
    shift = 3 if status.st_gid == owner[1] else 0
    return status.st_mode >> shift & wanted == wanted


def fingerprint(folder: Path, files: list[Path]) -> str:
    """
    Return the SHA-256 over relative names and contents.

    Files are hashed in parallel, those that are as they were the last time not at all.
    """
    cache = datacache.load(folder)
    names = [str(path.relative_to(folder)) for path in files]
    contents = [_known(cache, name, path) for name, path in zip(names, files, strict=True)]
    unknown = [i for i, content in enumerate(contents) if content is None]
    with ThreadPoolExecutor() as pool:
        read = functools.partial(_read_and_keep, cache)
        hashed = pool.map(read, [names[i] for i in unknown], [files[i] for i in unknown])
        for i, found in zip(unknown, hashed, strict=True):
            contents[i] = found
    cache.save()
    digest = hashlib.sha256()
    for name, content in zip(names, contents, strict=True):
        digest.update(f"{name}\0{content}\n".encode())
    return f"sha256:{digest.hexdigest()}"


def _known(cache: datacache.Cache, name: str, path: Path) -> str | None:
    known = cache.get(name, datacache.stamp(path.stat()))
    return known if os.access(path, os.R_OK) else None


def _read_and_keep(cache: datacache.Cache, name: str, path: Path) -> str:
    before = datacache.stamp(path.stat())
    content = _hash(path)
    if datacache.stamp(path.stat()) == before:
        cache.put(name, before, content)
    return content


def _hash(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror}.", "Check its rights.") from error
