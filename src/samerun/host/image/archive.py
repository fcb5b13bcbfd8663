"""
An image as a file, for machines without a registry: `docker save` output plus its identity.

`docker load` can still read the file. The identity is the last member, so it is missing from
any truncated file.
"""

import contextlib
import dataclasses
import io
import json
import lzma
import re
import tarfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samerun.core import contract, validation
from samerun.core.errors import TransferFailed
from samerun.core.record import Image
from samerun.core.terminal import safe
from samerun.host.image import identity

if TYPE_CHECKING:
    from docker import DockerClient

MEMBER = "samerun.json"
LARGEST_JSON = 8 * 2**20
# Annotations with the image's name in an OCI layout: containerd's, and the specification's.
NAME_NOTES = ("io.containerd.image.name", "org.opencontainers.image.ref.name")
REPOSITORY = "samerun-saved"
# The parts of the identity that another store can't compute from the layers.
CARRIED = ("manifest_digest", "index_digest", "config_digest", "pull_reference")


def save(client: "DockerClient", image: Image, path: Path, say: Callable[[str], None]) -> None:
    """
    Write *image* to *path* atomically.

    Raises:
        TransferFailed: The disk is full, or the folder is not writable.
    """
    # A separate name: loading the file on another machine must not move its tags.
    tag = tag_of(image)
    identity.give_name(client, image.reference, tag)
    partial = path.with_name(f".{path.name}.partial")
    try:
        say(f"Saving {image.reference} …")
        with partial.open("wb") as file:
            for chunk in client.api.get_image(tag):
                file.write(chunk)
        with tarfile.open(partial, "a") as tar:
            content = json.dumps(dataclasses.asdict(image), indent=1).encode()
            info = tarfile.TarInfo(MEMBER)
            info.size, info.mtime = len(content), contract.EPOCH
            tar.addfile(info, io.BytesIO(content))
        partial.replace(path)
    except OSError as error:
        raise TransferFailed(
            f"{path} could not be written: {error.strerror or error}.",
            "Choose another --file, in a writable folder with enough free space.",
        ) from error
    finally:
        with contextlib.suppress(OSError):  # of a read-only disk, on which there is none
            partial.unlink(missing_ok=True)
        client.api.remove_image(tag, noprune=True)


def load(client: "DockerClient", path: Path, say: Callable[[str], None]) -> Image:
    """
    Check that *path* holds exactly the image that it describes, under no other name; load it.

    Raises:
        TransferFailed: The file is truncated or damaged; nothing is left in the engine.
    """
    saved = check_archive(path)
    say(f"Loading {safe(saved.reference)} …")
    from docker.errors import DockerException
    from requests.exceptions import RequestException

    tag = tag_of(saved)
    try:
        _load(client, path)
        raw = client.api.inspect_image(tag)
    except (DockerException, RequestException, ValueError) as error:
        raise _load_failed(path, _innermost(error)) from error
    if identity.hash_layers(raw["RootFS"]["Layers"]) != saved.layers_digest:
        client.api.remove_image(tag)
        raise _other_layers(path, saved)
    # Another store can't compute these digests from the layers. They only serve as names.
    known = {name: getattr(saved, name) for name in CARRIED}
    identity.remember(raw["Id"], {name: value for name, value in known.items() if value})
    return identity.identify(client, tag)


def tag_of(image: Image) -> str:
    """Return the only name in an archive, which loading it sets."""
    return f"{REPOSITORY}:{image.digest[:12]}"


def check_archive(path: Path) -> Image:
    """
    Return the identity of the image in *path*, after checking the effects of loading it.

    Raises:
        TransferFailed: It is truncated, does not hold the layers that it describes, or would
            set another name. The engine has not read it then.
    """
    if path.exists() and not path.is_file():  # Opening a pipe would block.
        raise TransferFailed(
            f"{path} can't be read: it is not a plain file.",
            "Give a file written by `invoke save`.",
        )
    try:
        with tarfile.open(path) as tar:
            members = _members(tar, path)
            saved = _identity(tar, members, path)
            _check_names(tar, members, saved, path)
            _check_layers(tar, members, saved, path)
    except (tarfile.TarError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise _truncated(path) from error
    except OSError as error:
        raise TransferFailed(
            f"{path} can't be read: {error.strerror}.", "Give a file written by `invoke save`."
        ) from error
    return saved


def _members(tar: tarfile.TarFile, path: Path) -> dict[str, tarfile.TarInfo]:
    members: dict[str, tarfile.TarInfo] = {}
    for member in tar:
        name = member.name.removeprefix("./")
        if name in members or not (member.isfile() or member.isdir()) or ".." in name.split("/"):
            raise _unexpected(path, f"the entry {name!r:.60} is duplicate or not a plain file")
        members[name] = member
    return members


def _read(tar: tarfile.TarFile, members: Mapping[str, tarfile.TarInfo], name: str) -> Any:
    """Return a small JSON file of the archive; KeyError or ValueError if that fails."""
    member = members[name]
    if member.size > LARGEST_JSON:
        raise ValueError(f"{name} is too large")
    file = tar.extractfile(member)
    try:
        return json.loads(file.read() if file else b"")
    except RecursionError:
        raise ValueError(f"{name} is nested too deeply") from None


def _identity(tar: tarfile.TarFile, members: Mapping[str, tarfile.TarInfo], path: Path) -> Image:
    try:
        saved = validation.build(Image, _read(tar, members, MEMBER))
        validation.matches("digest", saved.digest, re.compile("[0-9a-f]{64}"))
    except (KeyError, ValueError) as error:
        raise _truncated(path) from error
    return saved


def _check_names(
    tar: tarfile.TarFile, members: Mapping[str, tarfile.TarInfo], saved: Image, path: Path
) -> None:
    """Refuse an archive that would set any other image name on this machine."""
    expected = tag_of(saved)
    try:
        names = {tag for one in _read(tar, members, "manifest.json") for tag in one["RepoTags"]}
        if "index.json" in members:
            entries = _read(tar, members, "index.json")["manifests"]
            notes = [entry.get("annotations") or {} for entry in entries]
            names |= {n[key] for n in notes for key in NAME_NOTES[:1] if key in n}
            names |= {f"{REPOSITORY}:{n[NAME_NOTES[1]]}" for n in notes if NAME_NOTES[1] in n}
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise _unexpected(path, "its list of images can't be read") from error
    if {str(name).removeprefix("docker.io/library/") for name in names} != {expected}:
        raise _unexpected(
            path, f"it names {', '.join(sorted(map(str, names)))}, not only {expected}"
        )


def _check_layers(
    tar: tarfile.TarFile, members: Mapping[str, tarfile.TarInfo], saved: Image, path: Path
) -> None:
    try:
        (one,) = _read(tar, members, "manifest.json")
        layers = _read(tar, members, one["Config"])["rootfs"]["diff_ids"]
    except (KeyError, ValueError, TypeError) as error:
        raise _unexpected(path, "its one image can't be read") from error
    if identity.hash_layers(layers) != saved.layers_digest:
        raise _other_layers(path, saved)


def _truncated(path: Path) -> TransferFailed:
    return TransferFailed(
        f"{path} is truncated, or was not written by `invoke save`: it has no {MEMBER}.",
        "Copy it again, or load an archive from another tool with `docker load`.",
    )


def _unexpected(path: Path, why: str) -> TransferFailed:
    return TransferFailed(
        f"{path} was not written by `invoke save`: {safe(why)}. Nothing was loaded.",
        "Copy it again from the machine that saved it, or load an archive from another tool with "
        "`docker load`.",
    )


def _other_layers(path: Path, saved: Image) -> TransferFailed:
    return TransferFailed(
        f"{path} does not hold the layers that were saved, {saved.layers_digest}.",
        "Copy it again from the machine that saved it.",
    )


def _load_failed(path: Path, why: str) -> TransferFailed:
    if "no space left" in why:
        return TransferFailed(
            f"{path} can't be loaded: {safe(why)}.",
            "Free space on the engine's disk, then run the command again.",
        )
    return TransferFailed(
        f"{path} is damaged: {safe(why)}.", "Copy it again from the machine that saved it."
    )


def _load(client: "DockerClient", path: Path) -> None:
    with path.open("rb") as file:
        for line in client.api.load_image(file, quiet=True):
            if "error" in line:
                raise ValueError(line["error"])


def _innermost(error: Exception) -> str:
    return " ".join(str(error).split())[-200:].rstrip('.")')
