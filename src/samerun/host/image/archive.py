"""
An image as a file, for machines without a registry: `docker save` output plus its identity.

`docker load` can still read the file. The identity is the last member, so it is missing from
any truncated file.
"""

import dataclasses
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samerun.core import contract
from samerun.core.errors import TransferFailed
from samerun.core.record import Image
from samerun.host.image import identity

if TYPE_CHECKING:
    from docker import DockerClient

MEMBER = "samerun.json"
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
    tag = f"{REPOSITORY}:{image.digest[:12]}"
    client.api.tag(image.reference, *tag.split(":"))
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
        partial.unlink(missing_ok=True)
        client.api.remove_image(tag, noprune=True)


def load(client: "DockerClient", path: Path, say: Callable[[str], None]) -> Image:
    """
    Load the image in *path*, and check that it is the saved one.

    Raises:
        TransferFailed: The file is truncated or damaged; nothing is left in the engine.
    """
    saved = _read_identity(path)
    say(f"Loading {saved['reference']} …")
    from docker.errors import DockerException
    from requests.exceptions import RequestException

    tag = f"{REPOSITORY}:{saved['digest'][:12]}"
    try:
        _load(client, path)
        raw = client.api.inspect_image(tag)
    except (DockerException, RequestException, ValueError) as error:
        raise TransferFailed(
            f"{path} is damaged: {_innermost(error)}.",
            "Copy it again from the machine that saved it.",
        ) from error
    if identity.hash_layers(raw["RootFS"]["Layers"]) != saved["layers_digest"]:
        client.api.remove_image(tag)
        raise TransferFailed(
            f"{path} does not hold the layers that were saved, {saved['layers_digest']}.",
            "Copy it again from the machine that saved it.",
        )
    identity.remember(raw["Id"], {n: saved[n] for n in CARRIED if saved.get(n)})
    return identity.identify(client, tag)


def _load(client: "DockerClient", path: Path) -> None:
    with path.open("rb") as file:
        for line in client.api.load_image(file, quiet=True):
            if "error" in line:
                raise ValueError(line["error"])


def _read_identity(path: Path) -> dict[str, Any]:
    try:
        with tarfile.open(path) as tar:
            file = tar.extractfile(MEMBER)
            return dict(json.loads(file.read() if file else b""))
    except (tarfile.TarError, KeyError, ValueError, EOFError) as error:
        raise TransferFailed(
            f"{path} is truncated, or was not written by `invoke save`: it has no {MEMBER}.",
            "Copy it again, or load an archive from another tool with `docker load`.",
        ) from error
    except OSError as error:
        raise TransferFailed(
            f"{path} can't be read: {error.strerror}.", "Give a file written by `invoke save`."
        ) from error


def _innermost(error: Exception) -> str:
    return " ".join(str(error).split())[-200:].rstrip('.")')
