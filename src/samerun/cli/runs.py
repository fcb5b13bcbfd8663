"""Runs that are there already."""

import sys
from pathlib import Path

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

from samerun.cli.common import reports_errors, say
from samerun.core.errors import SyncIncomplete

RUN = "the run's folder, or its name under runs/"
OUTPUT = "folder of the runs"


@task(auto_shortflags=False, help={"output": OUTPUT, "json": "for machines"})
@reports_errors
def runs(context: Context, output: str = "runs", json: bool = False) -> None:
    """List the runs: state, recipe, image, metric, age, whether W&B has all of it."""
    from samerun.cli.show import images
    from samerun.host.run import listing

    listed = listing.list_runs(Path(output))
    if json:
        say(images.many_to_json(listed))
    else:
        say(listing.table(listed) if listed else f"There is no run in {output}/.")


@task(
    auto_shortflags=False,
    positional=["run"],
    help={"run": RUN, "output": OUTPUT, "json": "the record itself"},
)
@reports_errors
def show(context: Context, run: str, output: str = "runs", json: bool = False) -> None:
    """Show the whole record of a run."""
    from samerun.cli.show import images
    from samerun.core import record
    from samerun.host.run import listing
    from samerun.host.run.folders import folder_of
    from samerun.host.run.summary import summarise

    folder = folder_of(run, output)
    found = listing.settled(listing.engine_or_none(), folder)
    if json:
        say(record.to_json(found).rstrip())
        return
    say(summarise(found, folder))
    say()
    say(images.whole(found))


@task(
    # For -f, as in `docker logs -f`.
    auto_shortflags=True,
    positional=["run"],
    help={"run": RUN, "output": OUTPUT, "follow": "go on until the run ends"},
)
@reports_errors
def logs(context: Context, run: str, output: str = "runs", follow: bool = False) -> None:
    """Print what a run has printed; with --follow (-f) go on until it ends."""
    from samerun.host.run import listing
    from samerun.host.run.folders import folder_of

    for chunk in listing.log(folder_of(run, output), follow=follow):
        sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()


@task(
    auto_shortflags=False,
    positional=["run"],
    help={"run": RUN, "output": OUTPUT, "kill": "at once, without a checkpoint"},
)
@reports_errors
def stop(context: Context, run: str, output: str = "runs", kill: bool = False) -> None:
    """Stop a run: it writes a checkpoint and ends; wait for that, and show its outcome."""
    from samerun.host.run import listing
    from samerun.host.run.folders import folder_of
    from samerun.host.run.summary import summarise

    folder = folder_of(run, output)
    say(summarise(listing.stop(folder, kill=kill, say=say), folder))


@task(
    auto_shortflags=False,
    iterable=["run"],
    help={
        "run": "this run's folder goes; may be repeated",
        "output": OUTPUT,
        "older-than": "the folders of all runs that ended before go: 12h, 7d, 2w",
        "yes": "don't ask",
        "dry": "only say what would go",
    },
)
@reports_errors
def clean(
    context: Context,
    run: list[str] | None = None,
    output: str = "runs",
    older_than: str | None = None,
    yes: bool = False,
    dry: bool = False,
) -> None:
    """
    Remove runs that are over and wholly in W&B, orphaned containers, unneeded image names.

    What goes on, or is not seen to be on W&B's server, stays.
    """
    from samerun.host.machine import engine
    from samerun.host.run import clean

    client = engine.connect()
    planned = clean.plan(client, Path(output), run or [], older_than)
    say("\n".join(planned.lines()) or "There is nothing to remove.")
    if dry or not planned or not (yes or _is_agreed()):
        return
    for text in clean.carry_out(client, planned):
        say(text)


def _is_agreed() -> bool:
    """Ask; nobody there is a no."""
    if not sys.stdin.isatty():
        say("Nothing was removed: give --yes where nobody can be asked.")
        return False
    return input("Remove this? [y/N] ").strip().lower() in ("y", "yes")


@task(
    auto_shortflags=False,
    positional=["run"],
    help={
        "run": RUN,
        "all": "every run in the folder of runs",
        "output": OUTPUT,
        "api-key-file": "file with the W&B key",
        "network": "Docker network of the container",
    },
)
@reports_errors
def sync(
    context: Context,
    run: str | None = None,
    all: bool = False,  # noqa: A002 - the flag's name
    output: str = "runs",
    api_key_file: str | None = None,
    network: str | None = None,
) -> None:
    """
    Deliver to W&B what its server lacks of a run, and check there that all arrived.

    It may be repeated, also after it was killed: what is there is not sent again.
    """
    from samerun.host.run import sync

    key_file = Path(api_key_file).expanduser() if api_key_file else None
    folders = sync.choose(run, Path(output), every=all)
    failed = 0
    for folder in folders:
        try:
            for line in sync.sync(folder, key_file, network):
                say(line)
        except SyncIncomplete as error:
            if not all:
                raise
            say(f"{folder.name}: {error}")
            failed += 1
    if failed:
        raise Exit(f"{failed} of {len(folders)} runs are not whole.", SyncIncomplete.exit_code)
