"""`invoke push`: push the image to a registry, and attach SBOM and provenance."""

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
    client: "DockerClient", name: str, repository: str | None, say: Callable[[str], None]
) -> Image:
    """
    Push the image *name*, or that of a run's folder, and attach SBOM and provenance.

    Raises:
        UsageError: The repository is missing or invalid.
        TransferFailed: The registry refused the push.
    """
    target = check_repository(repository or os.environ.get(REGISTRY_ENV))
    image = registry.push(client, identity.identify(client, _reference(name)), target, say)
    for problem in provenance.attach(client, image):
        say(problem)
    return image


def check_repository(repository: str | None) -> str:
    """
    Return *repository* if it has the form ``HOST[:PORT]/NAME``.

    Raises:
        UsageError: It is missing, has no host, or has a tag or a digest.
    """
    example = "for example --registry ghcr.io/you/samerun"
    if not repository:
        raise UsageError("No registry given.", f"Give one, {example}, or set {REGISTRY_ENV}.")
    if not references.is_repository(repository):
        raise UsageError(
            f"Invalid registry: {repository!r}. The form is HOST[:PORT]/NAME, in lower case, "
            "without tag or digest.",
            f"Give one, {example}.",
        )
    return repository


def _reference(name: str) -> str:
    """Return the image's reference; for a run's folder, the one in its record."""
    folder = Path(name).expanduser()
    if (folder / contract.RECORD).is_file():
        return record.read(folder).image.reference
    return name
