"""
A name of its own for the image of every run, so that no later build drops it.

A build moves the checkout's tag; containerd's store may then forget the image that
has no name left. The name is the first twelve digits of the digest, in the image's
own repository: the digest is then still found by its reference.
"""

import contextlib
import hashlib
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from samerun.core import contract
from samerun.core.record import Image
from samerun.host.checkout.project import IMAGE
from samerun.host.image import identity
from samerun.host.machine import cache

if TYPE_CHECKING:
    from docker import DockerClient

DIGITS = 12


def name(image: Image) -> str:
    """Return the name that *image* is kept by."""
    reference = image.reference
    repository = IMAGE if reference.startswith("sha256:") else reference.split("@")[0]
    return f"{repository}:{image.digest[:DIGITS]}"


def keep(client: "DockerClient", image: Image, folder: Path) -> str:
    """Name *image*, and note that the run in *folder* needs it."""
    kept = name(image)
    repository, _, tag = kept.rpartition(":")
    raw = identity.look_up(client, image.reference)
    client.api.tag(raw["Id"], repository, tag)
    _note(image.digest, folder)
    return kept


def _note(digest: str, folder: Path) -> None:
    """Note the pair in a file of its own: two runs at once never write the same one."""
    place = _notes(digest)
    with contextlib.suppress(OSError):  # A home that can't be written: `clean` then asks.
        place.mkdir(parents=True, exist_ok=True)
        key = hashlib.sha256(str(folder).encode()).hexdigest()
        (place / key).write_text(str(folder), encoding="utf-8")


def _notes(digest: str) -> Path:
    return cache.folder("runs") / digest[:DIGITS]


def needed_by(tag: str) -> list[Path]:
    """Return the folders of the runs, still there, that need the image named by *tag*."""
    paths = [Path(file.read_text(encoding="utf-8")) for file in _notes(tag).glob("*")]
    return [path for path in paths if (path / contract.RECORD).is_file()]


def unneeded(
    client: "DockerClient", also_needed: set[str], gone: frozenset[Path] = frozenset()
) -> list[str]:
    """
    Return the names given by `keep` whose runs are all gone.

    Args:
        client: The engine.
        also_needed: Digests of the runs that the caller knows of.
        gone: Folders of runs that count as gone.
    """
    needed = {digest[:DIGITS] for digest in also_needed}
    labeled = {"label": contract.LABEL_LOCK}
    tags = [tag for found in client.images.list(filters=labeled) for tag in found.tags]
    kept = [tag for tag in tags if re.fullmatch(rf"[0-9a-f]{{{DIGITS}}}", tag.rpartition(":")[2])]
    return sorted(t for t in kept if _is_free(t.rpartition(":")[2], needed, gone))


def _is_free(digits: str, needed: set[str], gone: frozenset[Path]) -> bool:
    # Without a note it was not `keep` that gave the name, or not this user's.
    noted = _notes(digits).is_dir()
    return noted and digits not in needed and not set(needed_by(digits)) - gone


def forget(client: "DockerClient", tag: str) -> None:
    """Remove a name; the image goes with its last one."""
    from docker.errors import APIError

    with contextlib.suppress(APIError):  # A container may still need it: the next time then.
        client.images.remove(tag, noprune=True)
        # Gone already where the image has had names in two repositories.
        shutil.rmtree(_notes(tag.rpartition(":")[2]), ignore_errors=True)
