"""Reproduce runs and compare them."""

from typing import Annotated

from invoke.context import Context

from samerun.cli.common import KeyFile, Output, say
from samerun.cli.verb import verb
from samerun.host.reproduce.options import ReproduceOptions

AnyRun = Annotated[str, "a run's name or folder, or entity/project/id in W&B"]


@verb()
def reproduce(context: Context, run: AnyRun, options: ReproduceOptions) -> None:
    """
    Run a run again from its record, and say whether the result is the same, bit for bit.

    Exits with 0 (identical), 93 (within --tolerance), 94 (different) or 95 (it can't be
    reproduced; the reason is printed).
    """
    from samerun.cli.show import verdicts
    from samerun.host.reproduce import reproduce, requirements

    if options.check:
        found = reproduce.check_requirements(run, options)
        verdicts.requirements(found)
        requirements.refuse(found, anyway=options.anyway)
        return
    made = reproduce.reproduce(run, options, say)
    say()
    verdicts.verdict(made.verdict, made.original.link, made.again.name)
    say(reproduce.places(made))
    reproduce.raise_unless_identical(made, options.largest_difference())


@verb()
def compare(
    context: Context,
    one: AnyRun,
    two: Annotated[str, "the other one"],
    metric: Annotated[str | None, "the metric to plot; default: valid_loss, else the first"] = None,
    output: Output = "runs",
    api_key_file: KeyFile = None,
) -> None:
    """Show what differs between two runs: image, packages, code, config, data, machine, metrics."""
    from samerun.cli.show import comparison
    from samerun.host.reproduce import compare

    comparison.show(compare.compare(one, two, output, api_key_file), metric)
