"""`invoke push`: the image to a registry, and what is known of its making beside it."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from samerun.core import contract, record, references
from samerun.core.errors import UsageError
from samerun.core.record import Image
from samerun.host.image import identity, provenance, registry

if TYPE_CHECKING:
    from docker import DockerClient

REGISTRY_ENV = "SAMERUN_REGISTRY"


def push(
    client: "DockerClient", asked: str, repository: str | None, say: Callable[[str], None]
) -> Image:
    """
    Push the image *asked*, or that of a run's folder, and attach SBOM and provenance.

    Raises:
        UsageError: No repository is given, or it is none.
        TransferFailed: The registry refused.
    """
    target = check_repository(repository or os.environ.get(REGISTRY_ENV))
    image = registry.push(client, identity.identify(client, _reference(asked)), target, say)
    for problem in provenance.attach(client, image):
        say(problem)
    return image


def check_repository(repository: str | None) -> str:
    """
    Return *repository*, ``HOST[:PORT]/NAME``, if it is one.

    Raises:
        UsageError: It is missing, has no host, or carries a tag or a digest.
    """
    example = "for example --registry ghcr.io/you/samerun"
    if not repository:
        raise UsageError("No registry is given.", f"Give one, {example}, or set {REGISTRY_ENV}.")
    if not references.is_repository(repository):
        raise UsageError(
            f"{repository!r} is not HOST[:PORT]/NAME (lower case, without tag or digest).",
            f"Give one, {example}.",
        )
    return repository


def _reference(asked: str) -> str:
    """Return what names the image: of a run's folder, the image that it ran in."""
    folder = Path(asked).expanduser()
    if (folder / contract.RECORD).is_file():
        return record.read(folder).image.reference
    return asked
