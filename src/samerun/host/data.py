"""A data folder: there, not empty, and known by its content."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from samerun import contract
from samerun.errors import DataError
from samerun.record import Data


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
        DataError: It does not exist, is no folder, or holds no file.
    """
    if not folder.is_dir():
        kind = "is not a folder" if folder.exists() else "does not exist"
        raise DataError(f"--data {folder} {kind}.", "Give the folder that holds the data.")
    found = (Path(root) / name for root, _, names in os.walk(folder) for name in names)
    files = sorted(path for path in found if path.is_file())
    if not files:
        raise DataError(f"--data {folder} holds no file.", "Is it mounted or downloaded?")
    return files


def fingerprint(folder: Path, files: list[Path]) -> str:
    """Return the SHA-256 over relative names and contents; files are hashed in parallel."""
    with ThreadPoolExecutor() as pool:
        contents = list(pool.map(_hash, files))
    digest = hashlib.sha256()
    for path, content in zip(files, contents, strict=True):
        digest.update(f"{path.relative_to(folder)}\0{content}\n".encode())
    return f"sha256:{digest.hexdigest()}"


def _hash(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror}.", "Check its rights.") from error
