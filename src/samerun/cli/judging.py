"""Runs judged: made again, and held against each other."""

from invoke.context import Context
from invoke.tasks import task

from samerun.cli.common import reports_errors, say

RUN = "a run's name or folder, or entity/project/id in W&B"
OUTPUT = "folder under which runs lie"
KEY = "file with the W&B key; default: WANDB_API_KEY, then ~/.netrc"


@task(
    auto_shortflags=False,
    positional=["run"],
    help={
        "run": RUN,
        "data": "folder of the data, where it is not where the record says",
        "check": "only say what is needed and whether it is there; train nothing",
        "anyway": "go on with other data, with mounted code as it is today, without a result",
        "tolerance": "largest relative difference of a metric or loss that ends with 93, not 94",
        "output": OUTPUT,
        "name": "name of the new run; default: the original's with -again and the time",
        "api-key-file": KEY,
        "network": "Docker network of the container, as of `invoke train`",
        "no-network": "no network at all; W&B records offline",
    },
)
@reports_errors
def reproduce(
    context: Context,
    run: str,
    data: str | None = None,
    check: bool = False,
    anyway: bool = False,
    tolerance: str = "1e-6",
    output: str = "runs",
    name: str | None = None,
    api_key_file: str | None = None,
    network: str | None = None,
    no_network: bool = False,
) -> None:
    """
    Run a run again from its record, and say whether it came out the same, bit for bit.

    Exits with 0 (identical), 93 (within --tolerance), 94 (different) or 95 (it can't be
    made again: the reason is told).
    """
    from samerun.cli.show import verdicts
    from samerun.host.reproduce import replay, reproduce, requirements

    options = replay.Options(
        data=data,
        anyway=anyway,
        tolerance=replay.tolerance(tolerance),
        output=output,
        name=name,
        api_key_file=api_key_file,
        network=network,
        no_network=no_network,
    )
    if check:
        found = reproduce.check(run, options)
        verdicts.needs(found)
        requirements.refuse(found, anyway=anyway)
        return
    made = reproduce.reproduce(run, options, say)
    say()
    verdicts.verdict(made.verdict, made.original.link, made.again.name)
    say(reproduce.places(made))
    reproduce.raise_unless_identical(made, options.tolerance)


@task(
    auto_shortflags=False,
    positional=["one", "two"],
    help={
        "one": RUN,
        "two": "the other one",
        "metric": "the metric to plot; default: valid_loss, else the first",
        "output": OUTPUT,
        "api-key-file": KEY,
    },
)
@reports_errors
def compare(
    context: Context,
    one: str,
    two: str,
    metric: str | None = None,
    output: str = "runs",
    api_key_file: str | None = None,
) -> None:
    """Show what differs between two runs: image, packages, code, config, data, machine, metrics."""
    from samerun.cli.show import comparison
    from samerun.host.reproduce import compare

    comparison.show(compare.compare(one, two, output, api_key_file), metric)
