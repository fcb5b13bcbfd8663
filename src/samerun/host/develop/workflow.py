"""`invoke ci`: a workflow that builds, tests, pushes and attests, from its template."""

from dataclasses import dataclass
from pathlib import Path

from samerun.core.errors import OutputError, UsageError
from samerun.host.checkout.project import Project
from samerun.host.image.push import check_repository

PLACEHOLDER = "REGISTRY"


@dataclass(frozen=True, kw_only=True)
class Service:
    """The path of a service's workflow file, and the service's registry."""

    file: str
    registry: str


SERVICES = {
    "github": Service(
        file=".github/workflows/image.yml", registry="ghcr.io/${{ github.repository }}"
    ),
    "gitlab": Service(file=".gitlab-ci.yml", registry="$CI_REGISTRY_IMAGE"),
}


def render(project: Project, service: str, registry: str | None) -> str:
    """
    Return the workflow of *service*, with *registry* (``HOST/NAME``) or the service's own.

    Raises:
        UsageError: The service is unknown, or the registry's name is invalid.
    """
    if service not in SERVICES:
        raise UsageError(f"Unknown service: {service!r}.", f"Use one of {', '.join(SERVICES)}.")
    text = (project.root / "cloud" / "ci" / f"{service}.yml").read_text(encoding="utf-8")
    repository = check_repository(registry) if registry else SERVICES[service].registry
    for mark in (f": {PLACEHOLDER}\n", f"={PLACEHOLDER}:"):
        text = text.replace(mark, mark.replace(PLACEHOLDER, repository))
    return text


def write(service: str, registry: str | None, file: Path | None, project: Project) -> Path:
    """
    Write the workflow and return its path; a different existing file is not overwritten.

    Raises:
        OutputError: A different file exists.
    """
    text = render(project, service, registry)
    path = file.expanduser() if file else project.root / SERVICES[service].file
    if path.exists() and path.read_text(encoding="utf-8") != text:
        raise OutputError(
            f"{path} already exists with different content.", "Give another --file, or move it."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path
