"""The machine: set it up, and say what it lacks."""

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

from samerun.cli.common import checkout, reports_errors, say


@task(auto_shortflags=False, help={"dry": "only say what would be done"})
@reports_errors
def setup(context: Context, dry: bool = False) -> None:
    """
    Bring a bare Debian or Ubuntu machine to a running Docker Engine.

    Installs and starts an engine where none answers, the NVIDIA container toolkit
    where there is a GPU, and what bootstrapping a base needs where no registry
    answers. Changes nothing where all that is there.
    """
    from samerun.host.setup import setup

    setup.setup(checkout(), say, dry=dry)


@task(auto_shortflags=False)
@reports_errors
def doctor(context: Context) -> None:
    """Check everything that a run needs; each line says ok, or what mends it."""
    from samerun.host.setup import doctor

    findings = []
    for finding in doctor.examine(checkout()):
        findings.append(finding)
        say(doctor.line(finding))
    if any(finding.mend and not finding.optional for finding in findings):
        raise Exit(code=1)
