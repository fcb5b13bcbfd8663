"""Commands that build, verify and inspect the image."""

from typing import Annotated, Literal

from invoke.context import Context

from samerun.cli.common import CudaOption, Json, checkout, reference, say
from samerun.cli.verb import verb
from samerun.host.checkout.project import Cuda

Named = Annotated[str | None, "a tag, a digest or an ID; default: the image of this checkout"]


@verb()
def build(
    context: Context,
    cuda: Annotated[
        Cuda, "CUDA release: 13, 12 (for drivers older than 580) or none (CPU only)"
    ] = "13",
    base: Annotated[Literal["auto", "pulled", "bootstrapped"], "source of the base image"] = "auto",
    no_cache: Annotated[bool, "rebuild every layer"] = False,
    frozen: Annotated[bool, "fail if the image differs from image.lock.json"] = False,
    json: Json = False,
) -> None:
    """
    Build the image, print its identity, and write it to image.lock.json.

    Builds only if sources, lock files or base have changed.
    """
    from samerun.cli.show import images
    from samerun.host.image import lockfile

    tell = images.to_stderr if json else say
    image = lockfile.build_and_lock(
        checkout(), cuda=cuda, base_choice=base, no_cache=no_cache, frozen=frozen, say=tell
    )
    say(images.to_json(image) if json else images.identity(image))


@verb()
def verify(context: Context, cuda: CudaOption = "13", json: Json = False) -> None:
    """
    Rebuild base and image from scratch, and compare.

    Uses another folder, different file times, no cache, and freshly downloaded packages.
    The digest must be the same; otherwise it lists the first files that differ.
    """
    from samerun.cli.show import images
    from samerun.host.image import verify
    from samerun.host.machine import engine

    tell = images.to_stderr if json else say
    result = verify.verify(engine.connect(), checkout(), cuda, tell)
    say(images.to_json(result) if json else images.verification(result))


@verb(positional=["image"])
def inspect(
    context: Context,
    image: Named = None,
    cuda: CudaOption = "13",
    packages: Annotated[bool, "list every package, not only the largest"] = False,
    sbom: Annotated[bool, "print the software bill of materials, CycloneDX JSON"] = False,
    json: Json = False,
) -> None:
    """Show an image's digests, labels, layers, and packages with licenses."""
    from samerun.cli.show import inspection
    from samerun.host.image import inspect
    from samerun.host.machine import engine

    named, client = reference(image, cuda), engine.connect()
    if sbom:
        say(inspect.sbom(client, named).rstrip())
        return
    contents = inspect.inspect(client, named)
    if json:
        say(inspection.to_json(contents))
    else:
        inspection.show(contents, everything=packages)


@verb()
def digest(
    context: Context,
    image: Named = None,
    cuda: CudaOption = "13",
    json: Annotated[bool, "print all digests by name, as JSON"] = False,
) -> None:
    """Print only the image's digest: 64 hexadecimal digits, the tag of its W&B runs."""
    from samerun.cli.show import images
    from samerun.host.image import identity
    from samerun.host.machine import engine

    identified = identity.identify(engine.connect(), reference(image, cuda))
    say(images.to_json(identified) if json else identified.digest)
