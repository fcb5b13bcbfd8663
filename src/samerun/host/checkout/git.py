"""The state of a checkout: its commit, and the patch of uncommitted changes."""

import hashlib
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

# The user's git configuration must not affect a patch: colors, prefixes, external programs,
# lines of context, the way in which changes are found.
AS_GIT_APPLY_READS_IT = (
    "--binary", "--full-index", "--no-color", "--no-ext-diff", "--no-textconv", "--no-renames",
    "--no-relative", "--src-prefix=a/", "--dst-prefix=b/", "--ignore-submodules=none",
    "--submodule=short", "--unified=3", "--inter-hunk-context=0", "--diff-algorithm=myers",
    "--indent-heuristic", "--output-indicator-new=+", "--output-indicator-old=-",
)  # fmt: skip
_ALL_CHANGES = ("--porcelain", "--ignore-submodules=none", "--untracked-files=normal")
# Settings that could start programs, hide changes, or order and color what git prints.
NEUTRAL = (
    "-c", "core.fsmonitor=false", "-c", "core.quotePath=true", "-c", "diff.external=",
    "-c", "diff.orderFile=/dev/null", "-c", "diff.suppressBlankEmpty=false", "-c", "color.ui=false",
    "-c", "log.showSignature=false", "-c", "apply.ignoreWhitespace=no",
)  # fmt: skip
# In a git hook these name the hook's repository, whatever folder is asked about. The last two
# change what a diff is.
FOREIGN = (
    "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_NAMESPACE",
    "GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_COMMON_DIR",
    "GIT_EXTERNAL_DIFF", "GIT_DIFF_OPTS",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class GitState:
    """*patch* is the difference to *commit* in git's binary format, empty if clean."""

    commit: str | None = None
    dirty: bool | None = None
    patch: bytes = b""

    @property
    def patch_sha256(self) -> str | None:
        """The hash of the patch, None if it is empty."""
        return hashlib.sha256(self.patch).hexdigest() if self.patch else None


def state_of(folder: Path) -> GitState:
    """Return the state of the checkout around *folder*; all None outside of one."""
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return GitState()
    changed = _git(folder, "status", *_ALL_CHANGES, "--", ".") or b""
    patch = _git(folder, "diff", *AS_GIT_APPLY_READS_IT, "HEAD", "--", ".") or b""
    return GitState(commit=commit.decode().strip(), dirty=bool(changed.strip()), patch=patch)


def origin(folder: Path) -> str | None:
    """Return the URL from which the checkout was cloned; None if it holds credentials."""
    output = _git(folder, "remote", "get-url", "origin")
    url = output.decode().strip() if output else ""
    return None if not url or "@" in url.partition("://")[2].partition("/")[0] else url


@dataclass(frozen=True, kw_only=True)
class TreeEntry:
    """A file of a commit: its octal *mode* (120000 is a link, 160000 a submodule) and object."""

    mode: str
    object_id: str
    path: str


def top(folder: Path) -> Path | None:
    """Return the root of the work tree around *folder*; None outside of one."""
    output = _git(folder, "rev-parse", "--show-toplevel") if folder.is_dir() else None
    return Path(os.fsdecode(output.removesuffix(b"\n"))) if output else None


def has_commit(root: Path, commit: str) -> bool:
    """Whether the repository in *root* has *commit*."""
    return _git(root, "cat-file", "-e", f"{commit}^{{commit}}") is not None


def tree(root: Path, commit: str) -> list[TreeEntry]:
    """
    Return the files of *commit* as they are stored.

    Neither this nor `blob` converts anything: `git archive` and a checkout would run the
    filters in the repository's configuration.
    """
    listed = _git(root, "ls-tree", "-r", "-z", "--full-tree", commit) or b""
    return [_entry(line) for line in listed.split(b"\0") if line]


def _entry(line: bytes) -> TreeEntry:
    head, _, path = line.partition(b"\t")
    mode, _, object_id = head.decode().split()
    return TreeEntry(mode=mode, object_id=object_id, path=os.fsdecode(path))


def blob(root: Path, object_id: str) -> bytes | None:
    """Return a stored file; None if the repository lacks it."""
    return _git(root, "cat-file", "blob", object_id)


def environment() -> dict[str, str]:
    """Return this process's environment without what leads git to another repository."""
    return {name: value for name, value in os.environ.items() if name not in FOREIGN}


def _git(folder: Path, *arguments: str) -> bytes | None:
    try:
        command = ["git", *NEUTRAL, *arguments]
        done = subprocess.run(
            command, cwd=folder, env=environment(), capture_output=True, check=False
        )
    except OSError:
        return None
    return done.stdout if done.returncode == 0 else None


def summarize(folder: Path, one: str, two: str) -> list[str] | None:
    """Return the changes between two commits, one line per file; None if git lacks one."""
    options = ("--stat=100", "--no-color", "--no-ext-diff", "--no-textconv", "--no-relative")
    stat = _git(folder, "diff", *options, "--end-of-options", one, two)
    return None if stat is None else stat.decode(errors="replace").splitlines()
