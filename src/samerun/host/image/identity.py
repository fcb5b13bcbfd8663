"""The identity of an image: every digest, by its name."""

import contextlib
import hashlib
import io
import json
import tarfile
import time
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
# To give an image a name that other commands give at the same time.
ATTEMPTS = 10


def identify(client: "DockerClient", reference: str) -> Image:
    """
    Return the identity of the local image *reference* (a tag, a digest or an ID).

    Raises:
        ImageNotFound: It is not on this machine. Nothing is pulled, no other tag is tried.
    """
    raw = look_up(client, reference)
    return from_metadata(raw, reference, engine.inspect(client).store, facts(client, raw))


def look_up(client: "DockerClient", reference: str) -> dict[str, Any]:
    """
    Return the engine's description of an image, also by a digest that only our cache has.

    Raises:
        ImageNotFound: The image is not on this machine.
    """
    from docker.errors import APIError

    try:
        return dict(client.api.inspect_image(reference))
    except APIError as error:
        known = _cached_id(reference)
        if known is None:
            raise ImageNotFound(
                f"The image {reference} is not on this machine.",
                "Build it with `invoke build`, or pull it with `invoke pull NAME@sha256:…`.",
            ) from error
    try:
        return dict(client.api.inspect_image(known))
    except APIError as error:
        raise ImageNotFound(
            f"The image {reference} was on this machine as {known}, but has been removed.",
            "Pull it with `invoke pull NAME@sha256:…`, or load it with `invoke load FILE`.",
        ) from error


def give_name(client: "DockerClient", image: str, name: str) -> None:
    """
    Tag *image* as *name*, also where other commands give the same name meanwhile.

    The containerd store removes a tag before it makes the new one, and fails if another command
    made it in between.
    """
    from docker.errors import APIError

    repository, _, tag = name.rpartition(":")
    for attempt in range(ATTEMPTS):
        try:
            client.api.tag(image, repository, tag)
        except APIError as error:
            if attempt + 1 == ATTEMPTS or "already exists" not in str(error):
                raise
            time.sleep(0.1 * (attempt + 1))
        else:
            return


def find_labeled(client: "DockerClient", label: str, value: str, repository: str) -> str | None:
    """Return the ID of an image with a tag in *repository* whose *label* has *value*."""
    for image in client.images.list(filters={"label": f"{label}={value}"}):
        # Images that derive from it may have the label, too; `verify` does not unpack its image.
        names = [tag.rpartition(":") for tag in image.tags]
        if any(name == repository and not tag.endswith("-verify") for name, _, tag in names):
            return str(image.id)
    return None


def _cached_id(reference: str) -> str | None:
    """
    Return the ID of the image whose manifest had the digest in *reference* on arrival.

    The classic store forgets that digest on `docker load`, and recompresses layers.
    """
    found = references.digest_of(reference)
    if not found:
        return None
    digest = f"sha256:{found}"
    for path in sorted(_cache_file("").parent.glob("*.json")):
        facts = _read_cache(path.stem)
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
    Name the digests in *raw*, the engine's description of an image.

    ``Id`` is the config's digest in the classic store, and the digest of the manifest or
    the index in the containerd store. RepoDigests are copied unchanged: the containerd
    store fills them without a push.
    """
    name = _name(raw, reference)
    # One entry per tag, so two tags in one repository give the same entry twice.
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
    """Return the digest that identifies the image to others, and its kind."""
    if store == "containerd":
        media = (raw.get("Descriptor") or {}).get("mediaType", "")
        return ("index" if media in INDEX_TYPES else "manifest"), raw["Id"]
    # The classic store has a manifest digest only after a push or a pull, one per repository.
    for entry in digests:
        repository, digest = entry.split("@")
        if repository == name:
            return "manifest", digest
    return "config", raw["Id"]


def hash_layers(layers: list[str]) -> str:
    """Return the SHA-256 of the DiffIDs, which save, load and compression do not change."""
    return "sha256:" + hashlib.sha256("\n".join(layers).encode()).hexdigest()


def _name(raw: dict[str, Any], reference: str) -> str:
    """Return the repository part of the reference, or of the image's first tag."""
    if reference.startswith("sha256:") or ("/" not in reference and ":" not in reference):
        tags = raw.get("RepoTags") or [reference]
        reference = tags[0]
    reference = reference.split("@")[0]
    head, _, last = reference.rpartition("/")
    return f"{head}/{last.split(':')[0]}" if head else last.split(":")[0]


def remember(identity: str, facts: dict[str, Any]) -> None:
    """Cache facts about an image that only its build or transfer reports, by its ID."""
    path = _cache_file(identity)
    with contextlib.suppress(OSError):  # A read-only home folder costs only another look-up.
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps({**_read_cache(identity), **facts}, indent=2) + "\n")


def _read_cache(identity: str) -> dict[str, Any]:
    try:
        value = json.loads(_cache_file(identity).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _cache_file(identity: str) -> Path:
    """Return an image's file in the user's cache, because all checkouts share the engine."""
    return cache.folder("images") / f"{identity.removeprefix('sha256:')}.json"


def facts(client: "DockerClient", raw: dict[str, Any]) -> dict[str, Any]:
    """Return the image's description and our cached facts; the image is read only once."""
    known = _read_cache(raw["Id"])
    if "packages" not in known:
        known |= read_facts(client, raw["Id"])
        remember(raw["Id"], known)
    return known


def architectures(client: "DockerClient", reference: str) -> dict[str, Any]:
    """Return the image's CUDA release and the GPU architectures that its torch supports."""
    return facts(client, look_up(client, reference))


def read_facts(client: "DockerClient", reference: str) -> dict[str, Any]:
    """Read the image's description without starting it; empty if samerun did not build it."""
    content = read_file(client, reference, contract.IMAGE_FACTS)
    return dict(json.loads(content)) if content else {"packages": {}}


def read_file(client: "DockerClient", reference: str, path: str) -> bytes | None:
    """Return a file from an image without starting it; None if the file does not exist."""
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
    Whether two images have the same content; None if unknown.

    The layers decide. A standalone container can't see its layers, but may know its digest.
    """
    if one.layers_digest and two.layers_digest:
        return one.layers_digest == two.layers_digest
    return True if digests(one) & digests(two) else None


def digests(image: Image) -> set[str]:
    """Return every digest of *image*, without ``sha256:``."""
    values = (image.digest, image.index_digest, image.manifest_digest, image.config_digest)
    return {value.removeprefix("sha256:") for value in values if value}
