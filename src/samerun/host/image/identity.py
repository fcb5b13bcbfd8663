"""The identity of an image: every digest, by its name."""

import contextlib
import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from samerun.core import contract, references
from samerun.core.errors import ImageNotFound
from samerun.core.files import write_atomically
from samerun.core.record import Base, Image
from samerun.host.machine import cache, engine

if TYPE_CHECKING:
    from docker import DockerClient

INDEX_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)


def identify(client: "DockerClient", reference: str) -> Image:
    """
    Return the identity of the local image *reference* (a tag, a digest or an ID).

    Raises:
        ImageNotFound: It is not on this machine. Nothing is pulled, no tag is tried instead.
    """
    raw = look_up(client, reference)
    return from_metadata(raw, reference, engine.inspect(client).store, facts(client, raw))


def look_up(client: "DockerClient", reference: str) -> dict[str, Any]:
    """
    Return the engine's answer on an image, also by a digest that only our memory knows.

    Raises:
        ImageNotFound: It is not on this machine.
    """
    from docker.errors import APIError

    try:
        return dict(client.api.inspect_image(reference))
    except APIError as error:
        known = _remembered(reference)
        if known is None:
            raise ImageNotFound(
                f"The image {reference} is not on this machine.",
                "Build it with `invoke build`, or `invoke pull NAME@sha256:…`.",
            ) from error
    try:
        return dict(client.api.inspect_image(known))
    except APIError as error:
        raise ImageNotFound(
            f"The image {reference} was on this machine as {known}, and is gone.",
            "Pull it with `invoke pull NAME@sha256:…`, or load it again.",
        ) from error


def _remembered(reference: str) -> str | None:
    """
    Return the ID of the image whose manifest had the digest in *reference* when it came.

    The classic store forgets it at `docker load`, and compresses layers anew.
    """
    found = references.digest_of(reference)
    if not found:
        return None
    digest = f"sha256:{found}"
    for path in sorted(_memory("").parent.glob("*.json")):
        facts = _recall(path.stem)
        if digest in (facts.get("manifest_digest"), facts.get("index_digest")):
            return f"sha256:{path.stem}"
    return None


def from_metadata(
    raw: dict[str, Any],
    reference: str,
    store: Literal["containerd", "classic"],
    known: dict[str, Any],
) -> Image:
    """
    Name the digests in *raw*, the engine's answer on an image.

    ``Id`` is the config's digest in the classic store, and the manifest's or the
    index's in containerd's. RepoDigests are kept as found: containerd's store fills
    them without any push.
    """
    name = _name(raw, reference)
    # One entry per tag, so an image of two names in a repository has one twice.
    identity, digests = raw["Id"], tuple(dict.fromkeys(raw.get("RepoDigests") or ()))
    kind, digest = _headline(raw, store, digests, name)
    labels = raw["Config"].get("Labels") or {}
    return Image(
        reference=f"{name}@{digest}" if kind != "config" else identity,
        digest=digest.removeprefix("sha256:"),
        digest_kind=kind,
        index_digest=digest if kind == "index" else known.get("index_digest"),
        manifest_digest=digest if kind == "manifest" else known.get("manifest_digest"),
        config_digest=identity if store == "classic" else known.get("config_digest"),
        layers_digest=hash_layers(raw["RootFS"]["Layers"]),
        repo_digests=digests,
        store=store,
        platform=f"{raw['Os']}/{raw['Architecture']}",
        base=Base(
            reference=labels.get(contract.LABEL_BASE, "unknown"),
            origin=labels.get(contract.LABEL_BASE_ORIGIN, "unknown"),
        ),
        cuda=labels.get(contract.LABEL_CUDA),
        inputs=labels.get(contract.LABEL_INPUTS),
        lock=labels.get(contract.LABEL_LOCK),
        packages=known.get("packages", {}),
        pull_reference=known.get("pull_reference"),
    )


def _headline(
    raw: dict[str, Any],
    store: str,
    digests: tuple[str, ...],
    name: str,
) -> tuple[Literal["index", "manifest", "config"], str]:
    """Return the digest that names the image to others, and what it is a digest of."""
    if store == "containerd":
        media = (raw.get("Descriptor") or {}).get("mediaType", "")
        return ("index" if media in INDEX_TYPES else "manifest"), raw["Id"]
    # The classic store has one only after a push or a pull; match the name, never take [0].
    for entry in digests:
        repository, digest = entry.split("@")
        if repository == name:
            return "manifest", digest
    return "config", raw["Id"]


def hash_layers(layers: list[str]) -> str:
    """Return the SHA-256 over the layers' DiffIDs: it survives save, load and recompression."""
    return "sha256:" + hashlib.sha256("\n".join(layers).encode()).hexdigest()


def _name(raw: dict[str, Any], reference: str) -> str:
    """Return the repository part: of the reference given, else of the image's first tag."""
    if reference.startswith("sha256:") or ("/" not in reference and ":" not in reference):
        tags = raw.get("RepoTags") or [reference]
        reference = tags[0]
    reference = reference.split("@")[0]
    head, _, last = reference.rpartition("/")
    return f"{head}/{last.split(':')[0]}" if head else last.split(":")[0]


def remember(identity: str, facts: dict[str, Any]) -> None:
    """Keep what only the build knows of an image (its config's digest), by its ID."""
    path = _memory(identity)
    with contextlib.suppress(OSError):  # A home that can't be written costs a look-up only.
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps({**_recall(identity), **facts}, indent=2) + "\n")


def _recall(identity: str) -> dict[str, Any]:
    try:
        return dict(json.loads(_memory(identity).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def _memory(identity: str) -> Path:
    """Return the file of an image in the user's cache: every checkout shares the engine."""
    return cache.folder("images") / f"{identity.removeprefix('sha256:')}.json"


def facts(client: "DockerClient", raw: dict[str, Any]) -> dict[str, Any]:
    """Return what the image's own file says, and what we remember of it; read once per image."""
    known = _recall(raw["Id"])
    if "packages" not in known:
        known |= read_facts(client, raw["Id"])
        remember(raw["Id"], known)
    return known


def architectures(client: "DockerClient", reference: str) -> dict[str, Any]:
    """Return the image's CUDA release and the GPU architectures that its torch serves."""
    return facts(client, look_up(client, reference))


def read_facts(client: "DockerClient", reference: str) -> dict[str, Any]:
    """Read the image's description without starting it; empty for another's image."""
    content = read_file(client, reference, contract.IMAGE_FACTS)
    return dict(json.loads(content)) if content else {"packages": {}}


def read_file(client: "DockerClient", reference: str, path: str) -> bytes | None:
    """Return a file of an image without starting it; None if it has none of that name."""
    from docker.errors import NotFound

    container = client.api.create_container(reference, command=["true"])
    try:
        stream, _ = client.api.get_archive(container["Id"], path)
        with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as tar:
            file = tar.extractfile(tar.getmembers()[0])
            return file.read() if file else None
    except NotFound:
        return None
    finally:
        client.api.remove_container(container["Id"])


def same_image(one: Image, two: Image) -> bool | None:
    """
    Whether two images hold the same; None where that is not known.

    The layers tell. A container does not see its own, but may know its digest.
    """
    if one.layers_digest and two.layers_digest:
        return one.layers_digest == two.layers_digest
    return True if digests(one) & digests(two) else None


def digests(image: Image) -> set[str]:
    """Return every digest that *image* is known by, without ``sha256:``."""
    named = (image.digest, image.index_digest, image.manifest_digest, image.config_digest)
    return {name.removeprefix("sha256:") for name in named if name}
