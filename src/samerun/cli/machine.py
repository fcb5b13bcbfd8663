"""Commands that set up and check the machine."""

from typing import Annotated

from invoke.context import Context
from invoke.exceptions import Exit

from samerun.cli.common import checkout, say
from samerun.cli.verb import verb


@verb()
def setup(context: Context, dry: Annotated[bool, "only print the steps"] = False) -> None:
    """
    Set up a Debian or Ubuntu machine with a running Docker Engine.

    Installs and starts an engine if none responds, the NVIDIA Container Toolkit if
    there is a GPU, and the tools to bootstrap the base image if its registry does
    not respond. Changes nothing if all of this is present.
    """
    from samerun.host.setup import setup

    setup.setup(checkout(), say, dry=dry)


@verb()
def doctor(context: Context) -> None:
    """Check everything that a run needs; each line is ok or has the command to fix it."""
    from samerun.host.setup import doctor

    findings = []
    for finding in doctor.examine(checkout()):
        findings.append(finding)
        say(doctor.line(finding))
    if any(finding.fix and not finding.optional for finding in findings):
        raise Exit(code=1)
