"""A layer on top of an image, built once for all trainings that need it."""

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from samerun.core import contract
from samerun.core.record import Image
from samerun.host.image import buildkit, identity
from samerun.host.image.buildkit import Build

if TYPE_CHECKING:
    from docker import DockerClient

PARENTS = "samerun-parent"


def build(
    client: "DockerClient",
    parent: Image,
    tag: str,
    key: str,
    log: Path,
    say: Callable[[str], None],
    *,
    folder: Path | None = None,
    stdin: bytes | None = None,
) -> Image:
    """
    Build *tag* from a context with a Dockerfile based on the argument PARENT.

    The context is *folder*, or the tar *stdin*. *key* is the hash of all inputs.
    """
    # BuildKit looks up a digest in a registry, but a tag in the local engine first. The tag is
    # unique, because another checkout may use the same parent at the same time.
    parent_tag = f"{PARENTS}:{secrets.token_hex(8)}"
    plan = Build(
        context="-" if folder is None else str(folder),
        tag=tag,
        arguments={"PARENT": parent_tag},
        labels={contract.LABEL_INPUTS: key},
    )
    client.api.tag(parent.reference, *parent_tag.split(":"))
    try:
        buildkit.run(client, plan, log, say, stdin=stdin)
    finally:
        client.api.remove_image(parent_tag, noprune=True)
    return identity.identify(client, tag)
