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
    Rerun a run from its record, and check whether the result is bit-identical.

    Exits with 0 (identical), 93 (within --tolerance), 94 (different) or 95 (it can't be
    reproduced; the reason is printed).
    """
    from samerun.cli.show import verdicts
    from samerun.host.reproduce import reproduce, requirements

    if options.check:
        needs = reproduce.check_requirements(run, options)
        verdicts.requirements(needs)
        requirements.refuse(needs, anyway=options.anyway)
        return
    result = reproduce.reproduce(run, options, say)
    say()
    verdicts.verdict(result.verdict, result.original.link, result.again.name)
    say(reproduce.places(result))
    reproduce.raise_unless_identical(result, options.largest_difference())


@verb()
def compare(
    context: Context,
    one: AnyRun,
    two: Annotated[str, "the run to compare with"],
    metric: Annotated[str | None, "the metric to plot; default: valid_loss, else the first"] = None,
    output: Output = "runs",
    api_key_file: KeyFile = None,
) -> None:
    """Show how two runs differ: image, packages, code, config, data, machine, metrics."""
    from samerun.cli.show import comparison
    from samerun.host.reproduce import compare

    comparison.show(compare.compare(one, two, output, api_key_file), metric)
