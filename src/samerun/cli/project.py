"""Commands for a new project of your own, and for the checkout: lock files, audit, tests."""

import shlex
from pathlib import Path
from typing import Annotated

from invoke.context import Context
from invoke.exceptions import Exit

from samerun.cli.common import CudaOption, checkout, reference, say
from samerun.cli.verb import verb


@verb()
def lock(
    context: Context,
    upgrade: Annotated[bool, "upgrade to the newest compatible versions"] = False,
    cpu_index: Annotated[
        str | None, "package index with CPU builds of torch, to lock the CPU-only image"
    ] = None,
) -> None:
    """Update uv.lock, the lock files exported from it, and the digest of the base image."""
    from samerun.host.checkout import lock

    lock.lock(checkout(), say, upgrade=upgrade, cpu_index=cpu_index)


@verb()
def audit(
    context: Context,
    licenses: Annotated[bool, "list the license of every package in the image instead"] = False,
    image: Annotated[str | None, "the image for --licenses; default: this checkout's"] = None,
    cuda: CudaOption = "13",
    service: Annotated[str | None, "URL of a mirror of api.osv.dev"] = None,
) -> None:
    """
    Check the locked packages for known vulnerabilities, or list licenses.

    Exemptions are in audit.toml, each with a reason and an end date.
    """
    from samerun.host.develop import audit
    from samerun.host.image import inspect
    from samerun.host.machine import engine

    if not licenses:
        audit.vulnerabilities(checkout(), say, service)
        return
    packages = inspect.inspect(engine.connect(), reference(image, cuda)).packages
    allowed = audit.read(checkout().root / audit.FILE)
    for name, version, license_name in audit.licenses(packages, allowed):
        say(f"{name} {version}: {license_name}")


@verb()
def test(
    context: Context,
    fast: Annotated[
        bool, "only checks that need no engine: style, prose, types, unit tests"
    ] = False,
    coverage: Annotated[bool, "measure the coverage of the host code by the unit tests"] = False,
    gpu: Annotated[
        bool, "only checks that need a GPU: in the image, and with the commands"
    ] = False,
    k: Annotated[str | None, "pytest's -k, for tests on the host"] = None,
) -> None:
    """
    Run all checks: style, prose, types, host tests, then those inside the image.

    The fast checks come first. The callback and training tests run in the image
    with pytest added, the others use a real engine.
    """
    from samerun.host.develop import checks

    if gpu:
        code = checks.run_on_gpu(checkout(), say)
    else:
        select = shlex.split(f"-k {k!r}") if k else []
        code = checks.run(checkout(), say, fast=fast, coverage=coverage, select=select)
    if code:
        raise Exit(code=code)


@verb()
def new(
    context: Context,
    name: Annotated[str, "folder of the project, which does not exist yet"],
) -> None:
    """
    Write a project that trains at once: script, notebook, test, CI file, README.

    Example:
        samerun new flowers
    """
    from samerun.host.develop import new_project

    for line in new_project.create(name):
        say(line)


@verb()
def init(context: Context) -> None:
    """Fit samerun into the project in the current folder: settings, ignored files, a CI file."""
    from samerun.host.develop import new_project

    for line in new_project.fit(Path()):
        say(line)
