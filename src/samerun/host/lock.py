"""`invoke lock`: refresh uv.lock, and the torch layers' locks that are read off it."""

import shutil
import subprocess
from pathlib import Path

from samerun.errors import SetupFailed
from samerun.host.project import CUDA_VERSIONS, Project


def lock(project: Project, *, upgrade: bool) -> None:
    """Resolve uv.lock again (all packages to their newest with *upgrade*), then export."""
    _uv(project, "lock", *(["--upgrade"] if upgrade else []))
    for cuda in CUDA_VERSIONS:
        torch_lock(project, cuda).write_text(export(project, cuda), encoding="utf-8")


def torch_lock(project: Project, cuda: str) -> Path:
    """Return the lock of the image's first layer, which no other package's change touches."""
    return project.root / "docker" / f"torch-cuda{cuda}.txt"


def export(project: Project, cuda: str) -> str:
    """Return the torch part of uv.lock, with hashes."""
    flags = ["--frozen", "--no-emit-project", "--no-header", "--no-annotate", "--quiet"]
    return _uv(project, "export", *flags, "--only-group", f"cuda{cuda}")


def _uv(project: Project, *arguments: str) -> str:
    if shutil.which("uv") is None:
        raise SetupFailed("`uv` is not installed.", "pip install uv")
    done = subprocess.run(
        ["uv", *arguments], cwd=project.root, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SetupFailed(f"`uv {arguments[0]}` failed:\n{done.stderr.strip()}", "")
    return done.stdout
