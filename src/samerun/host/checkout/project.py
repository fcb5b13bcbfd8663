"""The checkout that the tasks run in: where its files are, what they hash to."""

import contextlib
import fcntl
import hashlib
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

IMAGE = "samerun"
# "none": torch without CUDA, for machines that will never have a GPU.
Cuda = Literal["13", "12", "none"]
CUDA_VERSIONS: tuple[Cuda, ...] = ("13", "12", "none")
DEFAULT_CUDA: Cuda = "13"

# Everything that the Dockerfile reads; .dockerignore lets nothing else through.
INPUTS = ("Dockerfile", ".dockerignore", "docker", "pyproject.toml", "uv.lock", "src/samerun")


@dataclass(frozen=True, kw_only=True)
class Project:
    """A checkout of this repository."""

    root: Path

    @property
    def state(self) -> Path:
        """Folder of what the builds leave: logs and identities; ignored by git."""
        folder = self.root / ".samerun"
        folder.mkdir(exist_ok=True)
        return folder

    @contextlib.contextmanager
    def alone(self, what: str) -> Iterator[None]:
        """Let one command of this checkout at a time do *what*; the others wait."""
        with (self.state / f"{what}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @property
    def recipes(self) -> Path:
        """Folder of the recipes' sources."""
        return self.root / "src" / "samerun" / "train" / "recipes"

    def base_pins(self) -> dict[str, Any]:
        """Return docker/base.toml."""
        return tomllib.loads((self.root / "docker" / "base.toml").read_text(encoding="utf-8"))

    def group(self, name: str) -> tuple[str, ...]:
        """Return what a dependency group of pyproject.toml asks for."""
        text = (self.root / "pyproject.toml").read_text(encoding="utf-8")
        return tuple(tomllib.loads(text)["dependency-groups"][name])

    def lock_sha256(self) -> str:
        """Return the SHA-256 of uv.lock."""
        return self.file_sha256("uv.lock")

    def file_sha256(self, name: str) -> str:
        """Return the SHA-256 of the file *name* of this checkout."""
        return hashlib.sha256((self.root / name).read_bytes()).hexdigest()

    def inputs_sha256(self, *extra: str) -> str:
        """Return a hash over names and contents of all that the build reads, and *extra*."""
        digest = hashlib.sha256("\0".join(extra).encode())
        for path in sorted(self._input_files()):
            digest.update(f"\0{path.relative_to(self.root)}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        return digest.hexdigest()

    def _input_files(self) -> Iterable[Path]:
        for name in INPUTS:
            path = self.root / name
            files = path.rglob("*") if path.is_dir() else [path]
            yield from (f for f in files if f.is_file() and not self._is_left_out(f))

    def _is_left_out(self, path: Path) -> bool:
        # The host's own code does not go into the image: see .dockerignore.
        package = self.root / "src" / "samerun"
        own = any(path.is_relative_to(package / name) for name in ("host", "cli"))
        return own or "__pycache__" in path.parts


def variant(cuda: str) -> str:
    """Return the name of the image's variant for a CUDA release: ``cuda13`` or ``cpu``."""
    return "cpu" if cuda == "none" else f"cuda{cuda}"


def tag(cuda: str) -> str:
    """Return the image's local name for a CUDA release, e.g. ``samerun:cuda13``."""
    return f"{IMAGE}:{variant(cuda)}"
