"""Commands that list, show, stop, remove and sync runs."""

import sys
from pathlib import Path
from typing import Annotated

from invoke.context import Context
from invoke.exceptions import Exit

from samerun.cli.common import Json, KeyFile, Output, RunName, say
from samerun.cli.verb import verb
from samerun.core.errors import SyncIncomplete


@verb()
def runs(context: Context, output: Output = "runs", json: Json = False) -> None:
    """List the runs: state, recipe, image, metric, age, whether W&B has everything."""
    from samerun.cli.show import images, run_table
    from samerun.host.run import listing

    listed = listing.list_runs(Path(output))
    if json:
        say(images.many_to_json(listed))
    else:
        say(run_table.table(listed) if listed else f"There are no runs in {output}/.")


@verb()
def show(context: Context, run: RunName, output: Output = "runs", json: Json = False) -> None:
    """Show the complete record of a run."""
    from samerun.cli.show import images
    from samerun.core import record
    from samerun.host.run import listing
    from samerun.host.run.folders import folder_of
    from samerun.host.run.summary import summarize

    folder = folder_of(run, output)
    complete = listing.settled(listing.engine_or_none(), folder)
    if json:
        say(record.to_json(complete).rstrip())
        return
    say(summarize(complete, folder))
    say()
    say(images.whole(complete))


# Short flags for -f, as in `docker logs -f`.
@verb(auto_shortflags=True)
def logs(
    context: Context,
    run: RunName,
    output: Output = "runs",
    follow: Annotated[bool, "continue until the run ends"] = False,
) -> None:
    """Print the output of a run; with --follow (-f), continue until it ends."""
    from samerun.host.run import listing
    from samerun.host.run.folders import folder_of

    for chunk in listing.log(folder_of(run, output), follow=follow):
        sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()


@verb()
def stop(
    context: Context,
    run: RunName,
    output: Output = "runs",
    kill: Annotated[bool, "end it immediately, without a checkpoint"] = False,
) -> None:
    """Stop a run: wait until it has written a checkpoint and ended, and show its outcome."""
    from samerun.host.run import listing
    from samerun.host.run.folders import folder_of
    from samerun.host.run.summary import summarize

    folder = folder_of(run, output)
    say(summarize(listing.stop(folder, kill=kill, say=say), folder))


@verb()
def clean(
    context: Context,
    run: Annotated[tuple[str, ...], "remove this run's folder; may be repeated"] = (),
    output: Output = "runs",
    older_than: Annotated[
        str | None, "remove the folders of all runs that ended longer ago than e.g. 12h, 7d, 2w"
    ] = None,
    yes: Annotated[bool, "don't ask"] = False,
    dry: Annotated[bool, "only list what would be removed"] = False,
) -> None:
    """
    Remove leftover containers and image names; with --run or --older-than also runs.

    Runs that are in progress or not fully synced to W&B are kept.
    """
    from samerun.host.machine import engine
    from samerun.host.run import clean, leftovers

    client = engine.connect()
    if not dry:
        leftovers.remove(client)
    planned = clean.plan(client, Path(output), run, older_than)
    say("\n".join(planned.lines()) or "There is nothing to remove.")
    if dry or not planned or not (yes or _is_confirmed()):
        return
    for text in clean.carry_out(client, planned):
        say(text)


def _is_confirmed() -> bool:
    """Ask for confirmation; without a terminal the answer is no."""
    if not sys.stdin.isatty():
        say("Nothing was removed: there is no terminal to ask for confirmation; pass --yes.")
        return False
    return input("Remove this? [y/N] ").strip().lower() in ("y", "yes")


@verb(positional=["run"])
def sync(
    context: Context,
    run: Annotated[str | None, "the run's folder, or its name under runs/"] = None,
    all: Annotated[bool, "sync all runs"] = False,  # noqa: A002
    output: Output = "runs",
    api_key_file: KeyFile = None,
    network: Annotated[str | None, "Docker network of the container"] = None,
) -> None:
    """
    Upload what W&B is missing of a run, then check with the server that all arrived.

    It can be repeated, even after a kill: nothing is uploaded twice.
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
        raise Exit(
            f"{failed} of {len(folders)} runs are not fully synced.", SyncIncomplete.exit_code
        )
