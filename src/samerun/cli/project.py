"""The checkout: its locks, their audit, its tests."""

import shlex
from typing import Annotated

from invoke.context import Context
from invoke.exceptions import Exit

from samerun.cli.common import CudaOption, checkout, reference, say
from samerun.cli.verb import verb


@verb()
def lock(
    context: Context,
    upgrade: Annotated[bool, "take the newest versions that fit together"] = False,
    cpu_index: Annotated[
        str | None, "package index with torch's CPU builds: lock the CPU-only image from it"
    ] = None,
) -> None:
    """Refresh uv.lock and the locks read off it, and pin the base's tag to its digest of today."""
    from samerun.host.checkout import lock

    lock.lock(checkout(), say, upgrade=upgrade, cpu_index=cpu_index)


@verb()
def audit(
    context: Context,
    licenses: Annotated[bool, "list the license of every package in the image instead"] = False,
    image: Annotated[
        str | None, "the image whose licenses to list; default: this checkout's"
    ] = None,
    cuda: CudaOption = "13",
    service: Annotated[str | None, "address of a mirror of api.osv.dev"] = None,
) -> None:
    """
    Ask whether a locked package has a known vulnerability, or list licenses.

    Exceptions stand in audit.toml, each with the reason and a last day.
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
    fast: Annotated[bool, "only what needs no engine: style, prose, types, unit tests"] = False,
    coverage: Annotated[bool, "measure what the unit tests reach of the host side"] = False,
    k: Annotated[str | None, "pytest's -k, for the tests on the host"] = None,
) -> None:
    """
    Run all checks: style, prose, types, host tests, then those inside the image.

    Fast ones first; the tests of the callback and of training run in the image
    itself with pytest on top, the others drive a real engine.
    """
    from samerun.host.develop import checks

    select = shlex.split(f"-k {k!r}") if k else []
    code = checks.run(checkout(), say, fast=fast, coverage=coverage, select=select)
    if code:
        raise Exit(code=code)
