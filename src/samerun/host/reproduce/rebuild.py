"""Mounted code again: the commit that a record names, and the patch that lay over it."""

import hashlib
import io
import os
import re
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

from samerun.core import contract, files
from samerun.core.errors import Irreproducible
from samerun.core.record import Run
from samerun.host.reproduce.find_run import FoundRun

COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Source:
    """A commit in the repository *root*, and the patch over it; *folder* is relative to root."""

    root: Path
    folder: Path
    commit: str
    patch: bytes


def source(found: FoundRun) -> Source:
    """
    Return where the mounted code of *found* can be had from.

    Raises:
        Irreproducible: It was in no repository, its repository or its patch is not at hand,
            or the patch can't hold all of it.
    """
    run = found.run
    folder = mounted_folder(run)
    root = _git(folder, "rev-parse", "--show-toplevel") if folder.is_dir() else None
    commit = run.code.git_commit or ""
    # A record from elsewhere must not put a flag into git's command line.
    if not COMMIT.fullmatch(commit) or root is None:
        raise refusal(f"its folder {folder} is in no git repository here")
    top = Path(root.decode().strip())
    if _git(top, "cat-file", "-e", f"{commit}^{{commit}}") is None:
        raise refusal(f"{top} has no commit {commit}")
    return Source(
        root=top,
        folder=folder.resolve().relative_to(top.resolve()),
        commit=commit,
        patch=_patch(found),
    )


def mounted_folder(run: Run) -> Path:
    """Return the folder of the host that the run had mounted as its code."""
    mounts = run.launch.mounts if run.launch else ()
    for mount in mounts:
        if mount.target == contract.CODE:
            return Path(mount.source)
    return Path(run.code.target).expanduser().resolve().parent


def _patch(found: FoundRun) -> bytes:
    """Return the stored patch, empty for a clean checkout; refuse one that is not the one."""
    code = found.run.code
    if not code.git_dirty:
        return b""
    if code.patch_sha256 is None:
        raise refusal("files that git does not track had changed, and no patch holds those")
    if found.folder is None:
        raise refusal("its patch is kept with the run's folder only, on the machine that ran it")
    try:
        patch = files.read_plain(found.folder / contract.PATCH)
    except OSError:
        raise refusal(f"{found.folder / contract.PATCH} is gone") from None
    if hashlib.sha256(patch).hexdigest() != code.patch_sha256:
        raise refusal(f"{found.folder / contract.PATCH} is not the patch of the record")
    return patch


def refusal(reason: str) -> Irreproducible:
    """Return the error for code that was mounted and can't be had again."""
    return Irreproducible(
        f"The code was mounted (--mount-code), so no image holds it: {reason}.",
        "Train without --mount-code to make a run that can be made again, or give --anyway to "
        "run what lies in that folder today.",
    )


def lay_out(wanted: Source, target: Path) -> Path:
    """
    Write the commit into *target*, patch it, and return the folder to mount.

    From git's archive, not a work tree: nothing is left in the repository after a kill.
    """
    command = ["git", "archive", "--format=tar", wanted.commit]
    done = subprocess.run(command, cwd=wanted.root, capture_output=True, check=False)
    if done.returncode:
        raise refusal(f"git can't read {wanted.commit}: {done.stderr.decode().strip()[-200:]}")
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as tar:
        tar.extractall(target, filter="data")
    if wanted.patch:
        _apply(wanted.patch, target)
    # The run's user is not who made the temporary folder.
    target.chmod(0o755)
    return target / wanted.folder


def _apply(patch: bytes, target: Path) -> None:
    # Else git would take the folder for a part of a repository around it.
    environment = os.environ | {"GIT_CEILING_DIRECTORIES": str(target.parent)}
    done = subprocess.run(
        ["git", "apply", "--whitespace=nowarn", "-"],
        cwd=target,
        env=environment,
        input=patch,
        capture_output=True,
        check=False,
    )
    if done.returncode:
        raise refusal(f"the patch does not fit: {done.stderr.decode().strip()[-200:]}")


def _git(folder: Path, *arguments: str) -> bytes | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, check=False)
    except OSError:
        return None
    return done.stdout if done.returncode == 0 else None
