"""The runs in a folder: list them, show one, follow its log, stop it."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from samerun.core import contract, files, record
from samerun.core.errors import (
    EngineMissing,
    EnginePermission,
    OutputError,
    RunBusy,
    SamerunError,
)
from samerun.core.record import Run
from samerun.host.container import process
from samerun.host.machine import engine
from samerun.host.run import folders, leftovers, progress, recover
from samerun.host.tracking import synced

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

STEP_S = 0.3
# How long the command that follows a run may take to finish after the container's end.
LAST_WORDS_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Listed:
    """One run as `invoke runs` lists it."""

    name: str
    state: str
    target: str
    digest: str
    metric: str
    created: str
    synced: str
    folder: str
    restarts: int = 0
    # Flags of the recipe or script, and the last metrics by their names.
    flags: tuple[str, ...] = ()
    metrics: dict[str, float] = field(default_factory=dict)
    # Of a running training: epochs done, as 2/5, and the seconds that are left.
    progress: str = ""
    left_s: float | None = None


def engine_or_none() -> "DockerClient | None":
    """Return the engine, None if there is none: records can be read without it."""
    try:
        return engine.connect()
    except (EngineMissing, EnginePermission):
        return None


def records(output: Path) -> Iterator[Path]:
    """Yield the folders under *output* that have a record, the oldest first."""
    paths = [p.parent for p in output.expanduser().resolve().glob(f"*/{contract.RECORD}")]
    yield from sorted(paths, key=_modified)


def _modified(folder: Path) -> float:
    try:
        return (folder / contract.RECORD).lstat().st_mtime
    except OSError:  # It is being removed.
        return 0.0


def settled(client: "DockerClient | None", folder: Path) -> Run:
    """Return the record in *folder*, completed if the run's command died before its end."""
    run = record.read(folder)
    if client is None or not recover.is_open(run) or folders.is_held(folder):
        return run
    try:
        return recover.settle(client, folder)
    except RunBusy:
        return record.read(folder)


def list_runs(output: Path) -> list[Listed]:
    """List the runs under *output*; a record that can't be read is listed as damaged."""
    client = engine_or_none()
    listed = [_listed(client, folder) for folder in records(output)]
    if client is not None:
        leftovers.remove(client)
    return listed


def _listed(client: "DockerClient | None", folder: Path) -> Listed:
    try:
        run = settled(client, folder)
    except (SamerunError, OSError):
        return Listed(
            name=folder.name, state="damaged", target="", digest="", metric="", created="",
            synced="", folder=str(folder),
        )  # fmt: skip
    known = progress.read(folder) if run.outcome.state != "finished" else None
    metrics = known.metrics if known and known.done else progress.numbers(run.result.get("metrics"))
    running = known if run.outcome.state == "running" else None
    return Listed(
        name=run.name,
        state=run.outcome.state,
        target=run.code.target,
        digest=run.image.digest[:12],
        metric=main_metric(metrics),
        created=run.outcome.created,
        synced=synced.state(folder, run),
        folder=str(folder),
        restarts=run.outcome.restarts,
        flags=run.command[1:],
        metrics=metrics,
        progress=running.shown() if running else "",
        left_s=running.left() if running else None,
    )


def main_metric(metrics: Mapping[str, float]) -> str:
    """Return the last metric of the last epoch, which is the user's own if there is one."""
    numbers = [(k, v) for k, v in metrics.items() if k != "train_loss"]
    return f"{numbers[-1][0]} {numbers[-1][1]:.4f}" if numbers else ""


def log(folder: Path, *, follow: bool) -> Iterator[bytes]:
    """
    Yield what the run printed; with *follow* until it ends.

    Raises:
        OutputError: There is no log file.
    """
    client = engine_or_none() if recover.is_open(record.read(folder)) else None
    container = recover.container_of(client, folder) if client else None
    if container is not None and not folders.is_held(folder):
        # The command that copied its output has died.
        yield from container.logs(stream=True, follow=follow)
        return
    yield from _tail(folder, follow=follow)


def _tail(folder: Path, *, follow: bool) -> Iterator[bytes]:
    try:
        opened = files.open_plain(folder / contract.LOG)
    except OSError as error:
        own = record.read(folder).written_by == "container"
        remedy = (
            "Read it where the container was started: `kubectl logs`, `sky logs` or `docker logs`."
            if own
            else "Check that the run's folder is complete and readable."
        )
        raise OutputError(f"{folder} has no log: {error.strerror}.", remedy) from error
    with opened as file:
        while True:
            # Checked before reading, so that output printed until the end is read.
            more = follow and folders.is_held(folder)
            while chunk := file.read(1 << 16):
                yield chunk
            if not more:
                return
            time.sleep(STEP_S)


def stop(folder: Path, *, kill: bool, say: Callable[[str], None]) -> Run:
    """
    Stop the run in *folder*, wait for its end, and return its record.

    Raises:
        RunBusy: The command that follows it did not end in time.
    """
    client = engine.connect()
    run = record.read(folder)
    if not recover.is_open(run) and not folders.is_held(folder):
        elsewhere = run.outcome.state in recover.OPEN
        where = f"It was started by {run.hardware.engine}, not from this machine; stop it there."
        say(where if elsewhere else "It has already ended.")
        return run
    folders.ask_to_stop(folder)
    until = time.monotonic() + contract.STOP_TIMEOUT_S + LAST_WORDS_S
    while True:
        container = recover.container_of(client, folder)
        if container is not None and container.status == "running":
            _end(container, kill=kill)
        elif not folders.is_held(folder):
            return recover.settle(client, folder)
        if time.monotonic() > until:
            raise RunBusy(
                f"{folder} is still locked by another samerun command.", "Stop it or wait."
            )
        time.sleep(STEP_S)


def _end(container: "Container", *, kill: bool) -> None:
    from docker.errors import APIError

    if not kill:
        process.stop_container(container)
        return
    try:
        container.kill()
    except APIError:
        return  # It has already ended.
