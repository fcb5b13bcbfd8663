"""
A separate tag for the image of every run, so that no later build drops the image.

A build moves the checkout's tag, and the containerd store may then drop the untagged image.
The tag is the first twelve digits of the digest, in the image's own repository, so the
image can still be found by its reference.
"""

import contextlib
import fcntl
import hashlib
import re
import shutil
from collections.abc import Iterator
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
    """Return the name that pins *image*."""
    reference = image.reference
    repository = IMAGE if reference.startswith("sha256:") else reference.split("@")[0]
    return f"{repository}:{image.digest[:DIGITS]}"


def keep(client: "DockerClient", image: Image, folder: Path) -> str:
    """Pin *image*, and note that the run in *folder* needs it."""
    pin = name(image)
    raw = identity.look_up(client, image.reference)
    with _alone():
        identity.give_name(client, raw["Id"], pin)
        _note(image.digest, folder)
    return pin


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Hold the lock of this user's pins, so that `clean` never takes a name just given."""
    with contextlib.ExitStack() as stack:
        # If the home folder is not writable there are no notes, and `clean` keeps the names.
        with contextlib.suppress(OSError):
            cache.folder("runs").mkdir(parents=True, exist_ok=True)
            file = stack.enter_context((cache.folder("runs") / ".lock").open("w"))
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _note(digest: str, folder: Path) -> None:
    """Write one file per image and run, so that two runs never write to the same file."""
    notes = _notes(digest)
    # If the home folder is not writable, `clean` can't tell, and keeps the name.
    with contextlib.suppress(OSError):
        notes.mkdir(parents=True, exist_ok=True)
        key = hashlib.sha256(str(folder).encode()).hexdigest()
        (notes / key).write_text(str(folder), encoding="utf-8")


def _notes(digest: str) -> Path:
    return cache.folder("runs") / digest[:DIGITS]


def needed_by(tag: str) -> list[Path]:
    """Return the folders of the existing runs that need the image named by *tag*."""
    paths = [Path(file.read_text(encoding="utf-8")) for file in _notes(tag).glob("*")]
    return [path for path in paths if (path / contract.RECORD).is_file()]


def unneeded(
    client: "DockerClient", also_needed: set[str], gone: frozenset[Path] = frozenset()
) -> list[str]:
    """
    Return the names from `keep` whose runs no longer exist.

    Args:
        client: The engine.
        also_needed: Digests of the images of the caller's runs.
        gone: Folders of runs that are treated as deleted.
    """
    needed = {digest[:DIGITS] for digest in also_needed}
    labeled = {"label": contract.LABEL_LOCK}
    tags = [tag for image in client.images.list(filters=labeled) for tag in image.tags]
    pins = [tag for tag in tags if re.fullmatch(rf"[0-9a-f]{{{DIGITS}}}", tag.rpartition(":")[2])]
    return sorted(pin for pin in pins if _is_free(pin.rpartition(":")[2], needed, gone))


def note_checkout(tag: str, root: Path) -> None:
    """Note that *tag* is the image's name in the checkout in *root*."""
    notes = cache.folder("checkouts")
    with contextlib.suppress(OSError):
        notes.mkdir(parents=True, exist_ok=True)
        (notes / tag.rpartition("-")[2]).write_text(str(root), encoding="utf-8")


def abandoned(client: "DockerClient") -> list[str]:
    """Return the image's names in checkouts of this user that no longer exist."""
    tags = [tag for image in client.images.list(name=IMAGE) for tag in image.tags]
    return sorted(tag for tag in tags if _is_abandoned(tag))


def _is_abandoned(tag: str) -> bool:
    found = re.fullmatch(rf"{IMAGE}:(?:cuda1[23]|cpu|test)-([0-9a-f]{{8}})(?:-verify)?", tag)
    try:
        noted = (cache.folder("checkouts") / found[1]).read_text("utf-8") if found else None
    except OSError:  # It is another user's.
        return False
    return noted is not None and not Path(noted).exists()


def _is_free(digits: str, needed: set[str], gone: frozenset[Path]) -> bool:
    # Without a note, the name is not from `keep`, or belongs to another user.
    has_note = _notes(digits).is_dir()
    return has_note and digits not in needed and not set(needed_by(digits)) - gone


def forget(client: "DockerClient", tag: str) -> None:
    """
    Remove a name, unless a run needs it by now; removing the last one removes the image.

    The user may have taken minutes to confirm, and another checkout may have started a run.
    """
    with _alone():
        if not needed_by(tag.rpartition(":")[2]):
            _forget(client, tag)


def _forget(client: "DockerClient", tag: str) -> None:
    from docker.errors import APIError

    with contextlib.suppress(APIError):  # A container may still need it; retried next time.
        client.images.remove(tag, noprune=True)
        # Already gone if the image had names in two repositories.
        shutil.rmtree(_notes(tag.rpartition(":")[2]), ignore_errors=True)
