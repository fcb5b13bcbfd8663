"""Commands that move images between machines."""

from pathlib import Path
from typing import Annotated

from invoke.context import Context

from samerun.cli.common import CudaOption, Json, reference, say
from samerun.cli.verb import verb


@verb(positional=["image"])
def push(
    context: Context,
    image: Annotated[
        str | None, "a tag, a digest, an ID or a run's folder; default: the image of this checkout"
    ] = None,
    registry: Annotated[str | None, "HOST[:PORT]/NAME; default: SAMERUN_REGISTRY"] = None,
    cuda: CudaOption = "13",
    json: Json = False,
) -> None:
    """
    Push an image to a registry, with its provenance, and read its digest back.

    Prints NAME@sha256:…, with which any machine can pull exactly this image.
    """
    from samerun.cli.show import images
    from samerun.host.image import push
    from samerun.host.machine import engine

    tell = images.to_stderr if json else say
    pushed = push.push(engine.connect(), reference(image, cuda), registry, tell)
    say(images.to_json(pushed) if json else str(pushed.pull_reference))


@verb()
def pull(context: Context, image: Annotated[str, "NAME@sha256:…"]) -> None:
    """Pull an image by its digest; tags are refused, because they can change."""
    from samerun.cli.show import images
    from samerun.host.image import registry
    from samerun.host.machine import engine

    say(images.identity(registry.pull(engine.connect(), image, say)))


@verb(positional=["image"])
def save(
    context: Context,
    image: Annotated[
        str | None, "a tag, a digest or an ID; default: the image of this checkout"
    ] = None,
    file: Annotated[str | None, "the archive to write; default: samerun-DIGEST.tar"] = None,
    cuda: CudaOption = "13",
) -> None:
    """Save an image and its identity to a file, for machines without a registry."""
    from samerun.host.image import archive, identity
    from samerun.host.machine import engine

    client = engine.connect()
    saved = identity.identify(client, reference(image, cuda))
    path = Path(file or f"samerun-{saved.digest[:12]}.tar").expanduser()
    archive.save(client, saved, path, say)
    say(f"{path}  {path.stat().st_size / 1e6:.0f} MB  {saved.digest}")


@verb()
def load(context: Context, file: Annotated[str, "a file written by `invoke save`"]) -> None:
    """Load an image from a file written by `invoke save`, and check that it is the same."""
    from samerun.cli.show import images
    from samerun.host.image import archive
    from samerun.host.machine import engine

    say(images.identity(archive.load(engine.connect(), Path(file).expanduser(), say)))
