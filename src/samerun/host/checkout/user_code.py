"""
A user's script and its project: which files go into the image.

The project is the nearest folder up from the script that has one of `MARKS`. All of it goes in: the
files that git has or would add, and those of submodules.
"""

import os
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pathspec
from docker.utils.build import PatternMatcher

from samerun.core import contract
from samerun.core.errors import CodeError, UsageError
from samerun.host.checkout import git

MARKS = ("samerun.toml", "pyproject.toml", "requirements.txt", ".git")
"""A folder with one of these is a project."""
# Never code: what version control, Python, W&B and samerun leave in a folder.
ALWAYS_IGNORED = (
    ".dockerignore",
    ".git",
    "__pycache__/",
    ".venv/",
    "wandb/",
    "runs/",
    ".samerun/",
)
# These files hold keys, and a layer may be pushed and shared.
KEPT_SECRET = (".env", ".netrc", "_netrc")
_GIT_LIST = ("ls-files", "-z", "--exclude-standard")


@dataclass(frozen=True, kw_only=True)
class Script:
    """A script and its project *root*; what lies in *excluded* folders is data, or a result."""

    path: Path
    root: Path
    excluded: tuple[Path, ...] = ()

    @property
    def target(self) -> str:
        """The script's path in the container."""
        return f"{contract.CODE}/{self.path.resolve().relative_to(self.root)}"

    @property
    def working_folder(self) -> str:
        """The path in the container of the user's current folder; that of the project outside."""
        here = Path.cwd().resolve()
        if not here.is_relative_to(self.root):
            return contract.CODE
        return str(Path(contract.CODE, here.relative_to(self.root)))


def find(path: Path, project_dir: str | None = None, excluded: Sequence[Path] = ()) -> Script:
    """
    Return the script at *path*, in its project or in *project_dir*.

    Raises:
        CodeError: There is no script.
        UsageError: The script is not in *project_dir*.
    """
    if not path.is_file():
        raise CodeError(f"No script found at {path}.", "Give the path of a .py file.")
    whole = path.resolve()
    root = _root(whole.parent) if project_dir is None else Path(project_dir).expanduser().resolve()
    if not root.is_dir() or not whole.is_relative_to(root):
        raise UsageError(
            f"--project-dir {project_dir} does not contain the script {path}.",
            "Give a folder above the script, or omit it.",
        )
    folders = (folder.expanduser().resolve() for folder in excluded)
    others = tuple(folder for folder in folders if not whole.is_relative_to(folder))
    return Script(path=path, root=root, excluded=others)


def _root(folder: Path) -> Path:
    """Return the project's folder: never the home folder or above, which is much more than code."""
    home = Path.home().resolve()
    # Another user may put a mark into a folder that all may write to, such as /tmp.
    trusted = {0, os.getuid(), folder.stat().st_uid}
    for place in (folder, *folder.parents):
        if home.is_relative_to(place) and place != folder:
            break
        if any(_owner(place / mark) in trusted for mark in MARKS):
            return place
    return folder


def _owner(path: Path) -> int | None:
    """Return who owns *path*; None if it does not exist."""
    try:
        return path.lstat().st_uid
    except OSError:
        return None


def list_files(script: Script) -> list[Path]:
    """
    Return the files of the project that its ignore files do not exclude, sorted, relative to it.

    In a git work tree, git decides (nested .gitignore files, global excludes); elsewhere
    the project's .gitignore does. A .dockerignore applies in both cases.

    Raises:
        CodeError: A file can't be in a layer, or a submodule is missing.
    """
    root = script.root
    files = _git_files(root)
    paths = list(_plain_files(root)) if files is None else files
    ignored = [pathspec.GitIgnoreSpec.from_lines([*ALWAYS_IGNORED, *KEPT_SECRET])]
    if files is None:
        ignored.append(pathspec.GitIgnoreSpec.from_lines(_patterns(root / ".gitignore")))
    excluded = PatternMatcher(_patterns(root / ".dockerignore"))
    included = (p for p in paths if not any(spec.match_file(_text(p)) for spec in ignored))
    included = (p for p in included if not excluded.matches(_text(p)))
    included = (p for p in included if not _is_in(root / p, script.excluded))
    return sorted(p for p in included if _is_code(root, p))


def check_included(script: Script, files: Sequence[Path]) -> None:
    """
    Check that the script is one of *files*, which go into the image.

    Raises:
        CodeError: An ignore file excludes it.
    """
    if script.path.resolve().relative_to(script.root) not in files:
        raise CodeError(
            f"The script {script.path} is excluded by an ignore file of its project {script.root}.",
            "Remove it from .gitignore or .dockerignore, or give its folder as --project-dir.",
        )


def _plain_files(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not _is_skipped(Path(folder, name))]
        place = Path(folder).relative_to(root)
        # A link to a folder is listed as well, to be refused.
        links = [name for name in folders if Path(folder, name).is_symlink()]
        yield from (place / name for name in (*names, *links))


def _is_skipped(folder: Path) -> bool:
    """Whether the folder is ignored, or a virtual environment of any name."""
    return f"{folder.name}/" in ALWAYS_IGNORED or (folder / "pyvenv.cfg").is_file()


def _is_in(path: Path, folders: Sequence[Path]) -> bool:
    whole = path.resolve() if path.is_symlink() else path
    return any(whole.is_relative_to(folder) for folder in folders)


def _text(path: Path) -> str:
    """Return *path* as patterns are: text. A name is bytes, which need not be UTF-8."""
    return os.fsencode(path.as_posix()).decode(errors="replace")


def _patterns(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8")
        pathspec.GitIgnoreSpec.from_lines(text.splitlines())
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise CodeError(
            f"{path} can't be read: {error}.",
            "Correct it: it must hold one pattern per line, in UTF-8.",
        ) from error
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _is_code(folder: Path, path: Path) -> bool:
    """
    Whether *path* is a plain file; a link within the folder is followed.

    Raises:
        CodeError: A link points out of the folder, and a layer may be pushed and shared.
    """
    whole = folder / path
    if whole.is_symlink() or any(p.is_symlink() for p in _between(folder, whole)):
        if not whole.resolve().is_relative_to(folder.resolve()):
            raise CodeError(
                f"{whole} is a link that points out of the project, to {whole.resolve()}.",
                "Copy the file, list the link in .dockerignore, or mount data with --data.",
            )
        if whole.is_dir():
            raise CodeError(
                f"{whole} is a link to a folder, which would be missing in the image.",
                "Copy the folder, or list the link in .dockerignore.",
            )
    return whole.is_file()


def _between(folder: Path, path: Path) -> list[Path]:
    return [parent for parent in path.parents if folder in parent.parents]


def _git_files(folder: Path) -> list[Path] | None:
    """Return git's files in *folder*, and those of submodules; None where git knows none."""
    tracked, others = _git(folder, "--cached"), _git(folder, "--others")
    if tracked is None or others is None:
        return None
    found: list[Path] = []
    for path in dict.fromkeys((*tracked, *others)):
        whole = folder / path
        if whole.is_dir() and not whole.is_symlink():
            found += [path / inner for inner in _nested(whole)]
        else:
            found.append(path)
    return found


def _git(folder: Path, which: str) -> list[Path] | None:
    command = ["git", *git.NEUTRAL, *_GIT_LIST, which]
    try:
        done = subprocess.run(
            command, cwd=folder, env=git.environment(), capture_output=True, check=False
        )
    except OSError:
        return None
    if done.returncode:
        return None
    return [Path(os.fsdecode(name)) for name in done.stdout.split(b"\0") if name]


def _nested(folder: Path) -> list[Path]:
    """Return the files of a repository inside of another: git lists only its folder."""
    if not (folder / ".git").exists():
        if any(folder.iterdir()):
            return list(_plain_files(folder))
        raise CodeError(
            f"The submodule {folder} is not checked out, so its code would be missing.",
            "Run `git submodule update --init --recursive`.",
        )
    return _git_files(folder) or []
