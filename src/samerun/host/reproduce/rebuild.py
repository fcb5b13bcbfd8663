"""Mounted code again: the commit that a record names, and the patch that lay over it."""

import hashlib
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from samerun.core import contract, files
from samerun.core.errors import Irreproducible
from samerun.core.record import Run
from samerun.host.checkout import git
from samerun.host.reproduce.find_run import FoundRun

LINK, SUBMODULE, EXECUTABLE = "120000", "160000", "100755"
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

    The folder of a record counts only for a run of this machine. Of one that was read from
    W&B, the repository around the current folder is asked for the commit.

    Raises:
        Irreproducible: It was in no repository, its repository or its patch is not at hand,
            or the patch can't hold all of it.
    """
    commit = found.run.code.git_commit or ""
    # A record from elsewhere must not put a flag into git's command line.
    if not COMMIT.fullmatch(commit):
        raise refusal("it was in no git repository")
    folder = mounted_folder(found.run) if found.folder is not None else Path.cwd()
    refuse_written_by_a_run(folder)
    root = git.top(folder)
    if root is None:
        raise refusal(f"{folder} is in no git repository here")
    if not git.has_commit(root, commit):
        raise refusal(f"{root} has no commit {commit}")
    place = folder.resolve().relative_to(root.resolve())
    if found.folder is None:
        place = _place_in(root, commit, found.run)
    return Source(root=root, folder=place, commit=commit, patch=_patch(found))


def _place_in(root: Path, commit: str, run: Run) -> Path:
    """Return where in the commit the script's folder was: by the end of its recorded path."""
    files = {entry.path for entry in git.tree(root, commit)}
    parts = mounted_folder(run).parts[1:]
    for start in range(len(parts) + 1):
        place = Path(*parts[start:])
        if str(place / Path(run.code.target).name) in files:
            return place
    raise refusal(f"commit {commit[:12]} in {root} holds no {Path(run.code.target).name}")


def refuse_written_by_a_run(folder: Path) -> None:
    """
    Refuse a folder below the output of a run: git would take its configuration from there.

    Raises:
        Irreproducible: With the run's folder.
    """
    for parent in (folder.resolve(), *folder.resolve().parents):
        if (parent / contract.RECORD).exists():
            raise refusal(f"{folder} lies in the output of a run, {parent}")


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
    Write the commit into *target*, an empty folder, patch it, and return the folder to mount.

    File by file as git stores them: nothing is left in the repository after a kill, and no
    filter, hook or attribute of it is run.
    """
    for entry in git.tree(wanted.root, wanted.commit):
        _write(wanted, entry, target / entry.path)
    if wanted.patch:
        _apply(wanted.patch, target)
    # The run's user is not who made the temporary folder.
    target.chmod(0o755)
    return target / wanted.folder


def _write(wanted: Source, entry: git.TreeEntry, path: Path) -> None:
    if entry.mode == SUBMODULE:
        raise refusal(f"{entry.path} is a submodule, whose files are not in the commit")
    content = git.blob(wanted.root, entry.object_id)
    if content is None:
        raise refusal(f"git can't read {entry.path} of {wanted.commit}")
    path.parent.mkdir(parents=True, exist_ok=True)
    if entry.mode == LINK:
        path.symlink_to(os.fsdecode(content))  # Only the container follows it.
        return
    with path.open("xb") as file:
        file.write(content)
    path.chmod(0o755 if entry.mode == EXECUTABLE else 0o644)


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
