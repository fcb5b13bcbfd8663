"""`invoke ci`: a workflow that builds, tests, pushes and attests, from its template."""

from dataclasses import dataclass
from pathlib import Path

from samerun.core.errors import OutputError, UsageError
from samerun.host.checkout.project import Project
from samerun.host.image.push import check_repository

PLACEHOLDER = "REGISTRY"


@dataclass(frozen=True, kw_only=True)
class Service:
    """Where a service looks for its workflow, and the registry that comes with it."""

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
        UsageError: No such service, or no such registry's name.
    """
    if service not in SERVICES:
        raise UsageError(f"No service is called {service!r}.", f"Use one of {', '.join(SERVICES)}.")
    text = (project.root / "cloud" / "ci" / f"{service}.yml").read_text(encoding="utf-8")
    place = check_repository(registry) if registry else SERVICES[service].registry
    for mark in (f": {PLACEHOLDER}\n", f"={PLACEHOLDER}:"):
        text = text.replace(mark, mark.replace(PLACEHOLDER, place))
    return text


def write(service: str, registry: str | None, file: Path | None, project: Project) -> Path:
    """
    Write the workflow and return its path; a file that says something else is kept.

    Raises:
        OutputError: There is such a file.
    """
    text = render(project, service, registry)
    path = file.expanduser() if file else project.root / SERVICES[service].file
    if path.exists() and path.read_text(encoding="utf-8") != text:
        raise OutputError(f"{path} is there already.", "Give another --file, or move it away.")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path
