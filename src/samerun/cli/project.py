"""The checkout: its locks, their audit, its tests."""

import shlex

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

from samerun.cli import common
from samerun.cli.common import checkout, reports_errors, say


@task(
    auto_shortflags=False,
    help={
        "upgrade": "take the newest versions that fit together",
        "cpu-index": "package index with torch's CPU builds: lock the CPU-only image from it",
    },
)
@reports_errors
def lock(context: Context, upgrade: bool = False, cpu_index: str | None = None) -> None:
    """Refresh uv.lock and the locks read off it, and pin the base's tag to its digest of today."""
    from samerun.host.checkout import lock

    lock.lock(checkout(), say, upgrade=upgrade, cpu_index=cpu_index)


@task(
    auto_shortflags=False,
    help={
        "licences": "list the licence of every package in the image instead",
        "image": "the image whose licences to list; default: this checkout's",
        "cuda": "CUDA release of this checkout's image",
        "service": "address of a mirror of api.osv.dev",
    },
)
@reports_errors
def audit(
    context: Context,
    licences: bool = False,
    image: str | None = None,
    cuda: str = "13",
    service: str | None = None,
) -> None:
    """
    Ask whether a locked package has a known vulnerability, or list licences.

    What is let pass stands in audit.toml, with the reason and a last day.
    """
    from samerun.host.checkout.project import tag
    from samerun.host.develop import audit
    from samerun.host.image import inspect
    from samerun.host.machine import engine

    if not licences:
        audit.vulnerabilities(checkout(), say, service)
        return
    common.check_choices(cuda=cuda)
    packages = inspect.inspect(engine.connect(), image or tag(cuda)).packages
    for name, version, licence in audit.licences(
        packages, audit.read(checkout().root / audit.FILE)
    ):
        say(f"{name} {version}: {licence}")


@task(
    auto_shortflags=False,
    help={
        "fast": "only what needs no engine: style, spelling, prose, types, unit tests",
        "coverage": "measure how much of the host side the unit tests reach",
        "k": "pytest's -k, for the tests on the host",
    },
)
@reports_errors
def test(context: Context, fast: bool = False, coverage: bool = False, k: str = "") -> None:
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
