"""Rebuild mounted code from the commit and the patch in a record."""

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
    """A commit in the repository *root*, and a patch for it; *folder* is relative to root."""

    root: Path
    folder: Path
    commit: str
    patch: bytes


def source(found: FoundRun) -> Source:
    """
    Return the source of the mounted code of *found*.

    Raises:
        Irreproducible: The code was not in a repository, its repository or its patch is missing,
            or the patch does not contain all changes.
    """
    run = found.run
    folder = mounted_folder(run)
    root = _git(folder, "rev-parse", "--show-toplevel") if folder.is_dir() else None
    commit = run.code.git_commit or ""
    # Check the form, because a record could otherwise add a flag to git's command line.
    if not COMMIT.fullmatch(commit) or root is None:
        raise refusal(f"its folder {folder} is not in a git repository on this machine")
    top = Path(root.decode().strip())
    if _git(top, "cat-file", "-e", f"{commit}^{{commit}}") is None:
        raise refusal(f"{top} does not have the commit {commit}")
    return Source(
        root=top,
        folder=folder.resolve().relative_to(top.resolve()),
        commit=commit,
        patch=_patch(found),
    )


def mounted_folder(run: Run) -> Path:
    """Return the host folder that was mounted as the run's code."""
    mounts = run.launch.mounts if run.launch else ()
    for mount in mounts:
        if mount.target == contract.CODE:
            return Path(mount.source)
    return Path(run.code.target).expanduser().resolve().parent


def _patch(found: FoundRun) -> bytes:
    """Return the stored patch, empty for a clean checkout; check its hash."""
    code = found.run.code
    if not code.git_dirty:
        return b""
    if code.patch_sha256 is None:
        raise refusal("files not tracked by git had changed, and a patch does not contain them")
    if found.folder is None:
        raise refusal("its patch is only in the run's folder, on the machine that ran it")
    try:
        patch = files.read_plain(found.folder / contract.PATCH)
    except OSError:
        raise refusal(f"{found.folder / contract.PATCH} can't be read") from None
    if hashlib.sha256(patch).hexdigest() != code.patch_sha256:
        raise refusal(f"{found.folder / contract.PATCH} is not the patch of the record")
    return patch


def refusal(reason: str) -> Irreproducible:
    """Return the error for mounted code that can't be rebuilt."""
    return Irreproducible(
        f"The code was mounted (--mount-code), so it is not in the image: {reason}.",
        "Train without --mount-code for a reproducible run, or pass --anyway to run the current "
        "code in that folder.",
    )


def lay_out(wanted: Source, target: Path) -> Path:
    """
    Write the commit to *target*, patch it, and return the folder to mount.

    It uses `git archive`, not a worktree, so a kill leaves nothing in the repository.
    """
    command = ["git", "archive", "--format=tar", wanted.commit]
    done = subprocess.run(command, cwd=wanted.root, capture_output=True, check=False)
    if done.returncode:
        raise refusal(f"git can't read {wanted.commit}: {done.stderr.decode().strip()[-200:]}")
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as tar:
        tar.extractall(target, filter="data")
    if wanted.patch:
        _apply(wanted.patch, target)
    # The run's user may not be the one who created the temporary folder.
    target.chmod(0o755)
    return target / wanted.folder


def _apply(patch: bytes, target: Path) -> None:
    # Otherwise git might apply the patch to a repository that contains the folder.
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
        raise refusal(f"the patch does not apply: {done.stderr.decode().strip()[-200:]}")


def _git(folder: Path, *arguments: str) -> bytes | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, check=False)
    except OSError:
        return None
    return done.stdout if done.returncode == 0 else None
