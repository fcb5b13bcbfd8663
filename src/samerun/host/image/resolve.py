"""Exactly the image of a record, by digest: from this machine, else from its registry."""

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from samerun.core import references
from samerun.core.errors import ImageNotFound, TransferFailed
from samerun.core.record import Image
from samerun.host.image import identity, registry

if TYPE_CHECKING:
    from docker import DockerClient


def local(client: "DockerClient", wanted: Image) -> Image | None:
    """Return *wanted* if it is on this machine, looked up by any digest in its record."""
    for reference in local_names(wanted):
        with contextlib.suppress(ImageNotFound):
            return identity.identify(client, reference)
    return None


def local_names(wanted: Image) -> Iterator[str]:
    """Yield the references under which this machine may have *wanted*; never a tag."""
    digests = (wanted.manifest_digest, wanted.index_digest, wanted.config_digest)
    named = (wanted.reference, wanted.pull_reference, *wanted.repo_digests)
    candidates = (*named, f"sha256:{wanted.digest}", *digests)
    yield from dict.fromkeys(c for c in candidates if c and references.digest_of(c))


def sources(wanted: Image) -> tuple[str, ...]:
    """Return the references that a registry may serve, each HOST/NAME@sha256:…."""
    named = (wanted.pull_reference, wanted.reference, *wanted.repo_digests)
    by_digest = (name for name in named if name and references.by_digest(name))
    return tuple(dict.fromkeys(name for name in by_digest if references.has_host(name)))


def obtain(client: "DockerClient", wanted: Image, say: Callable[[str], None]) -> Image | None:
    """Return *wanted*, pulled if it is not local; None if no registry serves it."""
    image = local(client, wanted)
    for source in sources(wanted) if image is None else ():
        try:
            return registry.pull(client, source, say)
        except (ImageNotFound, TransferFailed) as error:
            say(f"{source}: {error.what}")
    return image


def mismatch(wanted: Image, found: Image) -> str | None:
    """
    Return how *found* differs from the image in the record; None if they are the same.

    The layers decide what runs, the config how it starts. The manifest may differ even if
    both are the same, because the layers were recompressed.
    """
    if not wanted.layers_digest:  # A standalone container can't see its layers.
        same = identity.same_image(wanted, found)
        return None if same else f"its digest is {found.digest}, the record says {wanted.digest}"
    if wanted.layers_digest != found.layers_digest:
        return f"its layers are {found.layers_digest}, the record says {wanted.layers_digest}"
    for kind in ("config_digest", "manifest_digest"):
        one, two = getattr(wanted, kind), getattr(found, kind)
        if one and two:
            name = kind.replace("_", " ")
            return None if one == two else f"its {name} is {two}, the record says {one}"
    return None
