"""The machine: set it up, and say what it lacks."""

from typing import Annotated

from invoke.context import Context
from invoke.exceptions import Exit

from samerun.cli.common import checkout, say
from samerun.cli.verb import verb


@verb()
def setup(context: Context, dry: Annotated[bool, "only say what would be done"] = False) -> None:
    """
    Bring a bare Debian or Ubuntu machine to a running Docker Engine.

    Installs and starts an engine where none answers, the NVIDIA container toolkit
    where there is a GPU, and what bootstrapping a base needs where no registry
    answers. Changes nothing where all of that is present.
    """
    from samerun.host.setup import setup

    setup.setup(checkout(), say, dry=dry)


@verb()
def doctor(context: Context) -> None:
    """Check everything that a run needs; each line says ok, or the command that fixes it."""
    from samerun.host.setup import doctor

    findings = []
    for finding in doctor.examine(checkout()):
        findings.append(finding)
        say(doctor.line(finding))
    if any(finding.fix and not finding.optional for finding in findings):
        raise Exit(code=1)
