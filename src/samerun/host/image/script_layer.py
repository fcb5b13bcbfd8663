"""A user's script: its folder becomes the last layer of a derived image, or a mount."""

import hashlib
import io
import os
import secrets
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pathspec
from docker.utils.build import PatternMatcher

from samerun.core import contract
from samerun.core.errors import CodeError
from samerun.core.record import Image
from samerun.host.checkout import git
from samerun.host.checkout.project import Project
from samerun.host.image import buildkit, identity
from samerun.host.image.buildkit import Build

if TYPE_CHECKING:
    from docker import DockerClient

REPOSITORY = "samerun-code"
PARENTS = "samerun-parent"
# Never code: what version control, Python, W&B and samerun leave in a folder.
ALWAYS_IGNORED = (
    ".dockerignore",
    ".git/",
    "__pycache__/",
    ".venv/",
    "wandb/",
    "runs/",
    ".samerun/",
)
# These files hold keys, and a layer may be pushed and shared.
KEPT_SECRET = (".env", ".netrc", "_netrc")
LIMIT_BYTES = 200 * 2**20


@dataclass(frozen=True, kw_only=True)
class Script:
    """A script and its folder."""

    path: Path

    @property
    def folder(self) -> Path:
        """The script's folder, absolute."""
        return self.path.resolve().parent

    @property
    def target(self) -> str:
        """The script's path in the container."""
        return f"{contract.CODE}/{self.path.name}"


def find(path: Path) -> Script:
    """Return the script at *path*; CodeError if there is none."""
    if not path.is_file():
        raise CodeError(f"No script found at {path}.", "Give the path of a .py file.")
    return Script(path=path)


def list_files(folder: Path) -> list[Path]:
    """
    Return the files of *folder* that its ignore files do not exclude, sorted by path.

    In a git work tree, git decides (nested .gitignore files, global excludes); elsewhere
    the folder's .gitignore does. A .dockerignore applies in both cases.
    """
    files = _git_files(folder)
    paths = files if files is not None else [p.relative_to(folder) for p in folder.rglob("*")]
    ignored = [pathspec.GitIgnoreSpec.from_lines([*ALWAYS_IGNORED, *KEPT_SECRET])]
    if files is None:
        ignored.append(pathspec.GitIgnoreSpec.from_lines(_patterns(folder / ".gitignore")))
    excluded = PatternMatcher(_patterns(folder / ".dockerignore"))
    included = (p for p in paths if not any(spec.match_file(_text(p)) for spec in ignored))
    included = (p for p in included if not excluded.matches(_text(p)))
    return sorted(p for p in included if _is_code(folder, p))


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
                f"{whole} is a link that points out of the script's folder, to {whole.resolve()}.",
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
    command = ["git", *git.NEUTRAL, "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        done = subprocess.run(
            command, cwd=folder, env=git.environment(), capture_output=True, check=False
        )
    except OSError:
        return None
    if done.returncode:
        return None
    return [Path(os.fsdecode(name)) for name in done.stdout.split(b"\0") if name]


def pack(folder: Path) -> bytes:
    """
    Return the build context as a tar: the files, and a Dockerfile based on PARENT.

    Times, owners and modes are fixed, so the same code gives the same layer.

    Raises:
        CodeError: The files exceed 200 MiB: data should not be in the image.
    """
    files = list_files(folder)
    size = sum((folder / path).stat().st_size for path in files)
    if size > LIMIT_BYTES:
        raise CodeError(
            f"The script's folder {folder} is too large to become a layer: "
            f"{size / 2**20:.0f} MiB in {len(files)} files, the limit is 200 MiB.",
            "List everything that is not code in its .dockerignore, and mount data with --data.",
        )
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        dockerfile = f"ARG PARENT\nFROM $PARENT\nCOPY --chown=0:0 code {contract.CODE}\n"
        _add(tar, "Dockerfile", dockerfile.encode(), executable=False)
        for path in files:
            source = folder / path
            _add(tar, f"code/{path}", source.read_bytes(), executable=_is_executable(source))
    return buffer.getvalue()


def _add(tar: tarfile.TarFile, name: str, content: bytes, *, executable: bool) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mtime = len(content), contract.EPOCH
    info.mode = 0o755 if executable else 0o644
    tar.addfile(info, io.BytesIO(content))


def _is_executable(path: Path) -> bool:
    return bool(path.stat().st_mode & 0o111)


def derive(
    client: "DockerClient",
    project: Project,
    script: Script,
    parent: Image,
    say: Callable[[str], None],
) -> Image:
    """Return the image with the script's folder as its last layer; build it if necessary."""
    context = pack(script.folder)
    key = hashlib.sha256(parent.digest.encode() + context).hexdigest()
    tag = f"{REPOSITORY}:{key[:16]}"
    # Trainings that start at the same time share the derived image and its parent's tag.
    with project.alone("code"):
        if not client.images.list(name=tag):
            # BuildKit looks up a digest in a registry, but a tag in the local engine first. The
            # tag is unique, because another checkout may use the same parent at the same time.
            parent_tag = f"{PARENTS}:{secrets.token_hex(8)}"
            derived = Build(
                context="-",
                tag=tag,
                arguments={"PARENT": parent_tag},
                labels={contract.LABEL_INPUTS: key},
            )
            client.api.tag(parent.reference, *parent_tag.split(":"))
            try:
                buildkit.run(client, derived, project.state / "code-build.log", say, stdin=context)
            finally:
                client.api.remove_image(parent_tag, noprune=True)
    return identity.identify(client, tag)
