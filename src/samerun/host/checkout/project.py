"""The checkout in which the commands run: its files and their hashes."""

import contextlib
import fcntl
import hashlib
import os
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

IMAGE = "samerun"
# "none": torch without CUDA, for machines without a GPU.
Cuda = Literal["13", "12", "none"]
CUDA_VERSIONS: tuple[Cuda, ...] = ("13", "12", "none")
DEFAULT_CUDA: Cuda = "13"

# Everything that the Dockerfile reads; .dockerignore excludes all other files.
INPUTS = ("Dockerfile", ".dockerignore", "docker", "pyproject.toml", "uv.lock", "src/samerun")


@dataclass(frozen=True, kw_only=True)
class Project:
    """A checkout of this repository."""

    root: Path

    @property
    def state(self) -> Path:
        """Folder for local state, such as build logs; ignored by git."""
        folder = self.root / ".samerun"
        folder.mkdir(exist_ok=True)
        return folder

    def tag(self, cuda: str) -> str:
        """
        Return the image's local name in this checkout, e.g. ``samerun:cuda13-1a2b3c4d``.

        Other checkouts on the same engine have others, so that no build takes an image away
        from under a command of another checkout.
        """
        return self.own_tag(variant(cuda))

    def own_tag(self, name: str) -> str:
        """Return the tag *name* of the image, as this checkout's."""
        mark = hashlib.sha256(os.fsencode(self.root.resolve())).hexdigest()[:8]
        return f"{IMAGE}:{name}-{mark}"

    @contextlib.contextmanager
    def alone(self, what: str) -> Iterator[None]:
        """Hold a lock for *what*, so that one command of this checkout at a time does it."""
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
        """Return the requirements of a dependency group of pyproject.toml."""
        text = (self.root / "pyproject.toml").read_text(encoding="utf-8")
        return tuple(tomllib.loads(text)["dependency-groups"][name])

    def lock_sha256(self) -> str:
        """Return the SHA-256 of uv.lock."""
        return self.file_sha256("uv.lock")

    def file_sha256(self, name: str) -> str:
        """Return the SHA-256 of the file *name* of this checkout."""
        return hashlib.sha256((self.root / name).read_bytes()).hexdigest()

    def inputs_sha256(self, *extra: str) -> str:
        """Return a hash of the names and contents of all build inputs, and of *extra*."""
        digest = hashlib.sha256("\0".join(extra).encode())
        for path in sorted(self._input_files()):
            digest.update(f"\0{path.relative_to(self.root)}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        return digest.hexdigest()

    def _input_files(self) -> Iterable[Path]:
        for name in INPUTS:
            path = self.root / name
            files = path.rglob("*") if path.is_dir() else [path]
            yield from (f for f in files if f.is_file() and not self._is_excluded(f))

    def _is_excluded(self, path: Path) -> bool:
        # The host's code is not in the image: see .dockerignore.
        package = self.root / "src" / "samerun"
        own = any(path.is_relative_to(package / name) for name in ("host", "cli"))
        return own or "__pycache__" in path.parts


def variant(cuda: str) -> str:
    """Return the name of the image's variant for a CUDA release: ``cuda13`` or ``cpu``."""
    return "cpu" if cuda == "none" else f"cuda{cuda}"


def tag(cuda: str) -> str:
    """Return the name of the image that any checkout built last, e.g. ``samerun:cuda13``."""
    return f"{IMAGE}:{variant(cuda)}"
