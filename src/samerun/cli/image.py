"""The image: build, check and look at it."""

from invoke.context import Context
from invoke.tasks import task

from samerun.cli import common
from samerun.cli.common import checkout, reports_errors, say
from samerun.host.checkout.project import tag as project_tag


@task(
    auto_shortflags=False,
    help={
        "cuda": "CUDA release: 13, 12 (for drivers older than 580) or none (CPU only)",
        "base": "auto, pulled or bootstrapped",
        "no-cache": "build every layer again",
        "frozen": "fail unless the image is the one of image.lock.json",
        "json": "print the identity as JSON",
    },
)
@reports_errors
def build(
    context: Context,
    cuda: str = "13",
    base: str = "auto",
    no_cache: bool = False,
    frozen: bool = False,
    json: bool = False,
) -> None:
    """
    Build the image, print its identity, and write it to image.lock.json.

    Does nothing if the image of these very sources, locks and base is here.
    """
    from samerun.cli.show import images
    from samerun.host.image import lockfile

    tell = images.to_stderr if json else say
    common.check_choices(cuda=cuda, base=base)
    image = lockfile.build_and_lock(
        checkout(), cuda=cuda, base_choice=base, no_cache=no_cache, frozen=frozen, say=tell
    )
    say(images.to_json(image) if json else images.identity(image))


@task(
    auto_shortflags=False,
    help={"cuda": "CUDA release of this checkout's image", "json": "print both identities"},
)
@reports_errors
def verify(context: Context, cuda: str = "13", json: bool = False) -> None:
    """
    Build base and image again from nothing, and compare.

    Other folder, other file times, nothing cached, packages downloaded anew: the same
    digest, or the first files that differ.
    """
    from samerun.cli.show import images
    from samerun.host.image import verify
    from samerun.host.machine import engine

    common.check_choices(cuda=cuda)
    verdict = verify.verify(engine.connect(), checkout(), cuda, images.to_stderr if json else say)
    say(images.to_json(verdict) if json else images.verdict(verdict))


@task(
    auto_shortflags=False,
    positional=["image"],
    help={
        "image": "a tag, a digest or an ID; default: the image of this checkout",
        "cuda": "CUDA release of this checkout's image",
        "packages": "list every package, not only the largest",
        "sbom": "print the software bill of materials, CycloneDX JSON",
        "json": "print everything as JSON",
    },
)
@reports_errors
def inspect(
    context: Context,
    image: str | None = None,
    cuda: str = "13",
    packages: bool = False,
    sbom: bool = False,
    json: bool = False,
) -> None:
    """Show what an image is and holds: digests, labels, layers, packages with licences."""
    from samerun.host.image import inspect
    from samerun.host.machine import engine

    reference, client = image or project_tag(cuda), engine.connect()
    if sbom:
        say(inspect.sbom(client, reference).rstrip())
        return
    found = inspect.inspect(client, reference)
    if json:
        say(inspect.to_json(found))
    else:
        inspect.show(found, everything=packages)


@task(
    auto_shortflags=False,
    help={
        "image": "a tag, a digest or an ID; default: the image of this checkout",
        "cuda": "CUDA release of this checkout's image",
        "json": "print every digest, by name",
    },
)
@reports_errors
def digest(
    context: Context, image: str | None = None, cuda: str = "13", json: bool = False
) -> None:
    """Print the image's digest alone: 64 hexadecimal digits, the tag of its W&B runs."""
    from samerun.cli.show import images
    from samerun.host.image import identity
    from samerun.host.machine import engine

    found = identity.identify(engine.connect(), image or project_tag(cuda))
    say(images.to_json(found) if json else found.digest)
