"""The state of a checkout: commit, and the patch that lies over it."""

import hashlib
import subprocess
from dataclasses import dataclass
from pathlib import Path

# The user's own configuration must not get into a patch: colors, prefixes, other programs.
AS_GIT_APPLY_READS_IT = (
    "--binary", "--no-color", "--no-ext-diff", "--no-textconv", "--no-renames",
    "--src-prefix=a/", "--dst-prefix=b/", "--ignore-submodules=none",
)  # fmt: skip
NEUTRAL = ("-c", "core.fsmonitor=false", "-c", "core.quotePath=true", "-c", "diff.external=")


@dataclass(frozen=True, kw_only=True)
class GitState:
    """*patch* is the difference to *commit* in git's binary form, empty if clean."""

    commit: str | None = None
    dirty: bool | None = None
    patch: bytes = b""

    @property
    def patch_sha256(self) -> str | None:
        """The hash of a patch that is there."""
        return hashlib.sha256(self.patch).hexdigest() if self.patch else None


def state_of(folder: Path) -> GitState:
    """Return the state of the checkout around *folder*; all None outside of one."""
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return GitState()
    changed = _git(folder, "status", "--porcelain", "--", ".") or b""
    patch = _git(folder, "diff", *AS_GIT_APPLY_READS_IT, "HEAD", "--", ".") or b""
    return GitState(commit=commit.decode().strip(), dirty=bool(changed.strip()), patch=patch)


def origin(folder: Path) -> str | None:
    """Return where the checkout around *folder* was cloned from, without a password in it."""
    found = _git(folder, "remote", "get-url", "origin")
    url = found.decode().strip() if found else ""
    return None if not url or "@" in url.partition("://")[2].partition("/")[0] else url


def _git(folder: Path, *arguments: str) -> bytes | None:
    try:
        command = ["git", *NEUTRAL, *arguments]
        done = subprocess.run(command, cwd=folder, capture_output=True, check=False)
    except OSError:
        return None
    return done.stdout if done.returncode == 0 else None


def summarize(folder: Path, one: str, two: str) -> list[str] | None:
    """Return what changed between two commits, a line per file; None if git has not both."""
    stat = _git(folder, "diff", "--stat=100", "--end-of-options", one, two)
    return None if stat is None else stat.decode(errors="replace").splitlines()
