"""A user's script: its folder becomes the last layer of a derived image, or a mount."""

import hashlib
import io
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pathspec

from samerun.core import contract
from samerun.core.errors import CodeError
from samerun.core.record import Image
from samerun.host.checkout.project import Project
from samerun.host.image import buildkit, identity
from samerun.host.image.buildkit import Build

if TYPE_CHECKING:
    from docker import DockerClient

REPOSITORY = "samerun-code"
PARENTS = "samerun-parent"
IGNORE_FILES = (".dockerignore", ".gitignore")
# Never code: what version control, Python, W&B and samerun leave in a folder.
ALWAYS_IGNORED = (".git/", "__pycache__/", ".venv/", "wandb/", "runs/", ".samerun/")
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
    patterns = [*ALWAYS_IGNORED, *KEPT_SECRET]
    for name in IGNORE_FILES if files is None else IGNORE_FILES[:1]:
        if (folder / name).is_file():
            patterns += (folder / name).read_text(encoding="utf-8").splitlines()
    spec = pathspec.GitIgnoreSpec.from_lines(patterns)
    paths = files if files is not None else [p.relative_to(folder) for p in folder.rglob("*")]
    included = (p for p in paths if not spec.match_file(str(p)))
    return sorted(p for p in included if (folder / p).is_file())


def _git_files(folder: Path) -> list[Path] | None:
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, check=False)
    except OSError:
        return None
    if done.returncode:
        return None
    return [Path(name.decode()) for name in done.stdout.split(b"\0") if name]


def pack(folder: Path, parent: str) -> bytes:
    """
    Return the build context as a tar: the files, and a Dockerfile based on *parent*.

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
        dockerfile = f"FROM {parent}\nCOPY --chown=0:0 code {contract.CODE}\n"
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
    parent_tag = f"{PARENTS}:{parent.digest[:16]}"
    context = pack(script.folder, parent_tag)
    key = hashlib.sha256(parent.digest.encode() + context).hexdigest()
    tag = f"{REPOSITORY}:{key[:16]}"
    # Trainings that start at the same time share the derived image and its parent's tag.
    with project.alone("code"):
        if not client.images.list(name=tag):
            derived = Build(context="-", tag=tag, labels={contract.LABEL_INPUTS: key})
            # BuildKit looks up a digest in a registry, but a tag in the local engine first.
            client.api.tag(parent.reference, *parent_tag.split(":"))
            try:
                buildkit.run(client, derived, project.state / "code-build.log", say, stdin=context)
            finally:
                client.api.remove_image(parent_tag, noprune=True)
    return identity.identify(client, tag)
