"""
The checkout of an installed samerun: what the image is built from, out of the wheel.

A build needs a folder like a clone's. It is written to the user's cache once for each content, so
that a newer version has another one, and with it other names of images.
"""

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from samerun.host.machine import cache

PACKAGE = Path(__file__).resolve().parents[2]
# Where the wheel has what lies beside src/ in a clone (pyproject.toml, force-include).
KIT = PACKAGE / "kit"
_SHOWN = 16


def root() -> Path:
    """Return the clone from which samerun is installed, or a folder like it."""
    clone = PACKAGE.parents[1]
    return clone if (clone / "Dockerfile").is_file() else _provide()


def _provide() -> Path:
    files = {place: path.read_bytes() for place, path in sorted(_files())}
    digest = hashlib.sha256()
    for place, content in files.items():
        digest.update(f"{place}\0{len(content)}\0".encode() + content)
    folder = cache.folder("installed") / digest.hexdigest()[:_SHOWN]
    if not folder.is_dir():
        _write(files, folder)
    return folder


def _files() -> Iterator[tuple[str, Path]]:
    """Yield each file with its path in a clone."""
    for base, prefix in ((KIT, ""), (PACKAGE, "src/samerun/")):
        for path in base.rglob("*"):
            inside = path.relative_to(base)
            is_kit = base == PACKAGE and inside.parts[0] == KIT.name
            if path.is_file() and not is_kit and "__pycache__" not in inside.parts:
                yield f"{prefix}{inside}", path


def _write(files: dict[str, bytes], folder: Path) -> None:
    """Write to another folder first, so that a kill leaves nothing half."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent))
    for place, content in files.items():
        (temporary / place).parent.mkdir(parents=True, exist_ok=True)
        (temporary / place).write_bytes(content)
    try:
        temporary.replace(folder)
    except OSError:
        # Another command has written it meanwhile.
        shutil.rmtree(temporary)
        if not folder.is_dir():
            raise
