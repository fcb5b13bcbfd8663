"""The image on its way to other machines."""

from pathlib import Path

from invoke.context import Context
from invoke.tasks import task

from samerun.cli.common import reports_errors, say
from samerun.host.checkout.project import tag as project_tag


@task(
    auto_shortflags=False,
    positional=["image"],
    help={
        "image": "a tag, a digest, an ID or a run's folder; default: the image of this checkout",
        "registry": "where to, HOST[:PORT]/NAME; default: SAMERUN_REGISTRY",
        "cuda": "CUDA release of this checkout's image",
        "json": "print the identity as JSON",
    },
)
@reports_errors
def push(
    context: Context,
    image: str | None = None,
    registry: str | None = None,
    cuda: str = "13",
    json: bool = False,
) -> None:
    """
    Push an image to a registry, with its provenance, and read its digest back.

    Prints NAME@sha256:…, by which any machine gets this very image.
    """
    from samerun.cli.show import images
    from samerun.host.image import push
    from samerun.host.machine import engine

    tell = images.to_stderr if json else say
    pushed = push.push(engine.connect(), image or project_tag(cuda), registry, tell)
    say(images.to_json(pushed) if json else str(pushed.pull_reference))


@task(auto_shortflags=False, positional=["reference"], help={"reference": "NAME@sha256:…"})
@reports_errors
def pull(context: Context, reference: str) -> None:
    """Pull an image by its digest; a tag is refused, it may be another image tomorrow."""
    from samerun.cli.show import images
    from samerun.host.image import registry
    from samerun.host.machine import engine

    say(images.identity(registry.pull(engine.connect(), reference, say)))


@task(
    auto_shortflags=False,
    positional=["image"],
    help={
        "image": "a tag, a digest or an ID; default: the image of this checkout",
        "file": "the archive to write; default: samerun-DIGEST.tar",
        "cuda": "CUDA release of this checkout's image",
    },
)
@reports_errors
def save(
    context: Context, image: str | None = None, file: str | None = None, cuda: str = "13"
) -> None:
    """Write an image and its identity to a file, for machines without a registry."""
    from samerun.host.image import archive, identity
    from samerun.host.machine import engine

    client = engine.connect()
    found = identity.identify(client, image or project_tag(cuda))
    path = Path(file or f"samerun-{found.digest[:12]}.tar").expanduser()
    archive.save(client, found, path, say)
    say(f"{path}  {path.stat().st_size / 1e6:.0f} MB  {found.digest}")


@task(auto_shortflags=False, positional=["file"], help={"file": "what `invoke save` wrote"})
@reports_errors
def load(context: Context, file: str) -> None:
    """Load an image that `invoke save` wrote, and check that it is the one."""
    from samerun.cli.show import images
    from samerun.host.image import archive
    from samerun.host.machine import engine

    say(images.identity(archive.load(engine.connect(), Path(file).expanduser(), say)))
