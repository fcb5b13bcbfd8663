"""`invoke clean`: what can go without anything being lost."""

import contextlib
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from samerun.core import record
from samerun.core.errors import OutputError, RecordError, RunBusy, SamerunError, UsageError
from samerun.core.record import Run
from samerun.host.container import process
from samerun.host.image import pins
from samerun.host.run import folders, listing, recover
from samerun.host.run.folders import folder_of
from samerun.host.tracking import synced

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What would go, and why the rest of what was asked for stays."""

    folders: tuple[Path, ...]
    containers: tuple[str, ...]
    names: tuple[str, ...]
    kept: tuple[str, ...]

    def __bool__(self) -> bool:
        """Whether there is anything to remove."""
        return bool(self.folders or self.containers or self.names)

    def lines(self) -> list[str]:
        """Return it for a reader."""
        return [
            *(f"keep    {text}" for text in self.kept),
            *(f"remove  {folder}" for folder in self.folders),
            *(f"remove  container {name}" for name in self.containers),
            *(f"remove  image name {name}" for name in self.names),
        ]


def age(text: str) -> timedelta:
    """
    Read ``30m``, ``12h``, ``7d`` or ``2w``.

    Raises:
        UsageError: It is none.
    """
    if re.fullmatch(r"[0-9]{1,6}[mhdw]", text):
        return timedelta(**{UNITS[text[-1]]: int(text[:-1])})
    raise UsageError(f"{text!r} is no age.", "Write e.g. 12h, 7d or 2w.")


def plan(
    client: "DockerClient", output: Path, chosen: Sequence[str], older_than: str | None
) -> Plan:
    """
    Return what can go: the *chosen* runs, or all older than *older_than*.

    Without either no run's folder goes, only what is orphaned.
    """
    limit = datetime.now(UTC) - age(older_than) if older_than else None
    wanted = [folder_of(name, str(output)) for name in chosen]
    if not chosen and limit:
        wanted = list(listing.records(output))
    gone, kept = [], []
    for folder in wanted:
        refusal = why_kept(client, folder, limit)
        if refusal:
            kept.append(f"{folder}: {refusal}")
        else:
            gone.append(folder)
    return Plan(
        folders=tuple(gone),
        containers=tuple(sorted(str(c.name) for c in orphans(client))),
        names=tuple(_names(client, output, gone)),
        kept=tuple(kept),
    )


def why_kept(client: "DockerClient", folder: Path, limit: datetime | None) -> str | None:
    """Return why the run in *folder* stays; None if it can go."""
    try:
        run = listing.settled(client, folder)
    except (SamerunError, OSError):
        return "its record can't be read"
    if recover.is_open(run) or folders.is_held(folder):
        return "it is going on"
    if run.outcome.state in recover.OPEN and limit is not None:
        return f"{run.hardware.engine} may still run it; name it to remove it"
    if not synced.is_safe_to_remove(folder, run):
        return "W&B may lack some of it: `invoke sync` first"
    if run.outcome.state in ("preempted", "killed") and limit is not None:
        return f"it is {run.outcome.state}, and can go on; name it to remove it"
    return "it is younger" if limit and _ended(run) > limit else None


def _ended(run: Run) -> datetime:
    return datetime.fromisoformat(run.outcome.ended or run.outcome.created)


def orphans(client: "DockerClient") -> "list[Container]":
    """Return ended containers of runs whose folder is gone, or whose record is complete."""
    return [c for c in recover.containers(client) if c.status == "exited" and _is_orphan(c)]


def _is_orphan(container: "Container") -> bool:
    folder = recover.output_of(container)
    if folder is None or not folder.is_dir():
        return True
    try:
        return not folders.is_held(folder) and not recover.is_open(record.read(folder))
    except RecordError:
        return True


def _names(client: "DockerClient", output: Path, gone: list[Path]) -> list[str]:
    digests = set()
    for folder in listing.records(output):
        with contextlib.suppress(RecordError):
            if folder not in gone:
                digests.add(record.read(folder).image.digest)
    return pins.unneeded(client, digests, frozenset(gone))


def carry_out(client: "DockerClient", planned: Plan) -> list[str]:
    """Remove what *planned* names; return what could not be removed."""
    failed = [text for text in map(_remove, planned.folders) if text]
    for container in orphans(client):
        if container.name in planned.containers:
            process.remove(container)
    for name in planned.names:
        pins.forget(client, name)
    return failed


def _remove(folder: Path) -> str | None:
    try:
        with folders.held(folder):
            # Checked again with the folder in hand: a `--resume` may have been quicker.
            if recover.is_open(record.read(folder)):
                return f"{folder} is going on"
            shutil.rmtree(folder)
    except (OSError, RunBusy, RecordError, OutputError) as error:
        return f"{folder} stays: {error}"
    return None
