"""Rebuild mounted code from the commit and the patch in a record."""

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
    """A commit in the repository *root*, and a patch for it; *folder* is relative to root."""

    root: Path
    folder: Path
    commit: str
    patch: bytes


def source(original: FoundRun) -> Source:
    """
    Return the source of the mounted code of *original*.

    The recorded folder is used only for a run of this machine. For a run from W&B, the commit is
    looked up in the repository around the current folder.

    Raises:
        Irreproducible: The code was not in a repository, its repository or its patch is missing,
            or the patch does not contain all changes.
    """
    commit = original.run.code.git_commit or ""
    # Check the form, because a record could otherwise add a flag to git's command line.
    if not COMMIT.fullmatch(commit):
        raise refusal("it was not in a git repository")
    folder = mounted_folder(original.run) if original.folder is not None else Path.cwd()
    refuse_written_by_a_run(folder)
    root = git.top(folder)
    if root is None:
        raise refusal(f"its folder {folder} is not in a git repository on this machine")
    if not git.has_commit(root, commit):
        raise refusal(f"{root} does not have the commit {commit}")
    place = folder.resolve().relative_to(root.resolve())
    if original.folder is None:
        place = _place_in(root, commit, original.run)
    return Source(root=root, folder=place, commit=commit, patch=_patch(original))


def _place_in(root: Path, commit: str, run: Run) -> Path:
    """Return the project's folder in the commit, found by the end of its recorded path."""
    files = {entry.path for entry in git.tree(root, commit)}
    parts = mounted_folder(run).parts[1:]
    name = _script_in_code(run)
    for start in range(len(parts) + 1):
        place = Path(*parts[start:])
        if str(place / name) in files:
            return place
    raise refusal(f"the commit {commit[:12]} in {root} does not contain {name}")


def _script_in_code(run: Run) -> Path:
    """Return the script's path in the mounted folder."""
    target = Path(run.launch.target) if run.launch else Path(run.code.target)
    if target.is_relative_to(contract.CODE) and ".." not in target.parts:
        return target.relative_to(contract.CODE)
    return Path(Path(run.code.target).name)


def refuse_written_by_a_run(folder: Path) -> None:
    """
    Refuse a folder inside the output of a run, where the run could have written git's config.

    Raises:
        Irreproducible: It is inside; the message names the run's folder.
    """
    for parent in (folder.resolve(), *folder.resolve().parents):
        if (parent / contract.RECORD).exists():
            raise refusal(f"{folder} is inside the output of a run, {parent}")


def mounted_folder(run: Run) -> Path:
    """Return the host folder that was mounted as the run's code."""
    mounts = run.launch.mounts if run.launch else ()
    for mount in mounts:
        if mount.target == contract.CODE:
            return Path(mount.source)
    return Path(run.code.target).expanduser().resolve().parent


def _patch(original: FoundRun) -> bytes:
    """Return the stored patch, empty for a clean checkout; check its hash."""
    code = original.run.code
    if not code.git_dirty:
        return b""
    if code.patch_sha256 is None:
        raise refusal("files not tracked by git had changed, and a patch does not contain them")
    if original.folder is None:
        raise refusal("its patch is only in the run's folder, on the machine that ran it")
    try:
        patch = files.read_plain(original.folder / contract.PATCH)
    except OSError:
        raise refusal(f"{original.folder / contract.PATCH} can't be read") from None
    if hashlib.sha256(patch).hexdigest() != code.patch_sha256:
        raise refusal(f"{original.folder / contract.PATCH} is not the patch of the record")
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
    Write the commit to *target*, an empty folder, patch it, and return the folder to mount.

    Files are written as git stores them, one by one: a kill leaves nothing in the repository,
    and none of its filters, hooks or attributes run.
    """
    for entry in git.tree(wanted.root, wanted.commit):
        _write(wanted, entry, target / entry.path)
    if wanted.patch:
        _apply(wanted.patch, target)
    # The run's user may not be the one who created the temporary folder.
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
    # Otherwise git might apply the patch to a repository that contains the folder.
    environment = git.environment() | {"GIT_CEILING_DIRECTORIES": str(target.parent)}
    done = subprocess.run(
        ["git", *git.NEUTRAL, "apply", "--whitespace=nowarn", "-"],
        cwd=target,
        env=environment,
        input=patch,
        capture_output=True,
        check=False,
    )
    if done.returncode:
        raise refusal(f"the patch does not apply: {done.stderr.decode().strip()[-200:]}")
