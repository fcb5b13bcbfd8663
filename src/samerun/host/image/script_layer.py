"""A user's project becomes the last layer of a derived image."""

import hashlib
import io
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from samerun.core import contract
from samerun.core.errors import CodeError
from samerun.core.record import Image
from samerun.host.checkout import user_code
from samerun.host.checkout.project import Project
from samerun.host.checkout.user_code import Script
from samerun.host.image import derived, identity

if TYPE_CHECKING:
    from docker import DockerClient

REPOSITORY = "samerun-code"
LIMIT_BYTES = 200 * 2**20
_SHOWN = 5


def pack(script: Script) -> bytes:
    """
    Return the build context as a tar: the project's files, and a Dockerfile based on PARENT.

    Times, owners and modes are fixed, so the same code gives the same layer.

    Raises:
        CodeError: The files exceed 200 MiB: data should not be in the image.
    """
    files = user_code.list_files(script)
    user_code.check_included(script, files)
    _check_size(script.root, files)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        dockerfile = f"ARG PARENT\nFROM $PARENT\nCOPY --chown=0:0 code {contract.CODE}\n"
        _add(tar, "Dockerfile", dockerfile.encode(), executable=False)
        for path in files:
            source = script.root / path
            _add(tar, f"code/{path}", source.read_bytes(), executable=_is_executable(source))
    return buffer.getvalue()


def _check_size(root: Path, files: Sequence[Path]) -> None:
    sizes = {path: (root / path).stat().st_size for path in files}
    size = sum(sizes.values())
    if size <= LIMIT_BYTES:
        return
    largest = sorted(sizes, key=lambda path: sizes[path], reverse=True)[:_SHOWN]
    shown = ", ".join(f"{path} ({sizes[path] / 2**20:.1f} MiB)" for path in largest)
    raise CodeError(
        f"The project {root} is too large to become a layer: {size / 2**20:.0f} MiB in "
        f"{len(files)} files, the limit is {LIMIT_BYTES / 2**20:.0f} MiB. The largest: {shown}.",
        "List everything that is not code in its .dockerignore, mount data with --data, or give "
        "a smaller folder as --project-dir.",
    )


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
    """Return the image with the script's project as its last layer; build it if necessary."""
    context = pack(script)
    key = hashlib.sha256(parent.digest.encode() + context).hexdigest()
    tag = f"{REPOSITORY}:{key[:16]}"
    # Trainings that start at the same time share the derived image and its parent's tag.
    with project.alone("code"):
        if client.images.list(name=tag):
            return identity.identify(client, tag)
        log = project.state / "code-build.log"
        return derived.build(client, parent, tag, key, log, say, stdin=context)
