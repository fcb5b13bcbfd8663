"""`invoke clean`: remove what is no longer needed."""

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
    """What would be removed, and why other selected runs are kept."""

    folders: tuple[Path, ...]
    containers: tuple[str, ...]
    names: tuple[str, ...]
    kept: tuple[str, ...]

    def __bool__(self) -> bool:
        """Whether there is anything to remove."""
        return bool(self.folders or self.containers or self.names)

    def lines(self) -> list[str]:
        """Return the lines to print."""
        return [
            *(f"keep    {text}" for text in self.kept),
            *(f"remove  {folder}" for folder in self.folders),
            *(f"remove  container {name}" for name in self.containers),
            *(f"remove  image name {name}" for name in self.names),
        ]


def age(text: str) -> timedelta:
    """
    Parse ``30m``, ``12h``, ``7d`` or ``2w``.

    Raises:
        UsageError: It has another form.
    """
    if re.fullmatch(r"[0-9]{1,6}[mhdw]", text):
        return timedelta(**{UNITS[text[-1]]: int(text[:-1])})
    raise UsageError(f"Invalid age: {text!r}.", "Use e.g. 12h, 7d or 2w.")


def plan(
    client: "DockerClient", output: Path, chosen: Sequence[str], older_than: str | None
) -> Plan:
    """
    Return what can be removed: the *chosen* runs, or all older than *older_than*.

    Without either, no run's folder is removed, only leftover containers and image names.
    """
    limit = datetime.now(UTC) - age(older_than) if older_than else None
    candidates = [folder_of(name, str(output)) for name in chosen]
    if not chosen and limit:
        candidates = list(listing.records(output))
    gone, kept = [], []
    for folder in candidates:
        reason = why_kept(client, folder, limit)
        if reason:
            kept.append(f"{folder}: {reason}")
        else:
            gone.append(folder)
    return Plan(
        folders=tuple(gone),
        containers=tuple(sorted(str(c.name) for c in orphans(client))),
        names=(*_names(client, output, gone), *pins.abandoned(client)),
        kept=tuple(kept),
    )


def why_kept(client: "DockerClient", folder: Path, limit: datetime | None) -> str | None:
    """Return why the run in *folder* is kept; None if it can be removed."""
    try:
        run = listing.settled(client, folder)
    except (SamerunError, OSError):
        return "its record can't be read"
    if recover.is_open(run) or folders.is_held(folder):
        return "it is still in progress"
    if run.outcome.state in recover.OPEN and limit is not None:
        return f"{run.hardware.engine} may still be running it; pass --run to remove it"
    if not synced.is_safe_to_remove(folder, run):
        return "W&B may not have all of it; run `invoke sync` first"
    if run.outcome.state in ("preempted", "killed") and limit is not None:
        return f"it is {run.outcome.state} and can be resumed; pass --run to remove it"
    return "it is newer" if limit and _ended(run) > limit else None


def _ended(run: Run) -> datetime:
    return datetime.fromisoformat(run.outcome.ended or run.outcome.created)


def orphans(client: "DockerClient") -> "list[Container]":
    """Return ended containers of runs with no folder or with a completed record."""
    return [c for c in recover.containers(client) if c.status == "exited" and _is_orphan(c)]


def _is_orphan(container: "Container") -> bool:
    folder = recover.output_of(container)
    try:
        if folder is None or not folder.is_dir():
            return True
        return not folders.is_held(folder) and not recover.is_open(record.read(folder))
    except RecordError:
        return True
    except OSError:  # It is another user's.
        return False


def _names(client: "DockerClient", output: Path, gone: list[Path]) -> list[str]:
    digests = set()
    for folder in listing.records(output):
        with contextlib.suppress(RecordError):
            if folder not in gone:
                digests.add(record.read(folder).image.digest)
    return pins.unneeded(client, digests, frozenset(gone))


def carry_out(client: "DockerClient", planned: Plan) -> list[str]:
    """Remove everything in *planned*; return a line for each failure."""
    failures = [text for text in map(_remove, planned.folders) if text]
    for container in orphans(client):
        if container.name in planned.containers:
            process.remove(container)
    for name in planned.names:
        pins.forget(client, name)
    return failures


def _remove(folder: Path) -> str | None:
    try:
        with folders.held(folder):
            # Check again while we hold the lock: a `--resume` may have started meanwhile.
            if recover.is_open(record.read(folder)):
                return f"{folder}: it is still in progress"
            shutil.rmtree(folder)
    except (OSError, RunBusy, RecordError, OutputError) as error:
        return f"{folder} was not removed: {error}"
    return None
