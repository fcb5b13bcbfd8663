"""Runs whose own command died: find their container, and complete their record."""

import contextlib
import re
import shutil
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samerun.core import contract, files, lifecycle, record, surroundings
from samerun.core.errors import RunBusy
from samerun.core.lifecycle import Ending
from samerun.core.record import Run
from samerun.host.container import process
from samerun.host.machine import user
from samerun.host.run import folders
from samerun.host.tracking import keys

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

OPEN = ("prepared", "running")
# Bytes by which the beginning of a container's output is looked for in the log.
KNOWN_BY = 16
# Nanoseconds, which Python's parser does not take.
_FRACTION = re.compile(r"\.\d+")


def container_of(client: "DockerClient", folder: Path) -> "Container | None":
    """Return the container, ended or not, of the run in *folder*; names alone prove nothing."""
    labeled = {"label": f"{contract.LABEL_RUN}={folder.name}"}
    for found in client.containers.list(all=True, filters=labeled):
        if output_of(found) == folder:
            return found
    return None


def containers(client: "DockerClient") -> "list[Container]":
    """Return the containers of all runs on this engine."""
    return list(client.containers.list(all=True, filters={"label": contract.LABEL_RUN}))


def output_of(container: "Container") -> Path | None:
    """Return the run's folder, as the engine mounted it."""
    return _source(container, contract.OUTPUT)


def _source(container: "Container", target: str) -> Path | None:
    for mount in container.attrs.get("Mounts", ()):
        if mount.get("Destination") == target:
            return Path(mount["Source"])
    return None


def is_open(run: Run) -> bool:
    """
    Whether the record awaits its end from this side.

    One that a container writes itself is another engine's business, perhaps elsewhere.
    """
    return run.written_by == "host" and run.outcome.state in OPEN


def settle(client: "DockerClient", folder: Path) -> Run:
    """
    Return the record of the run in *folder*, completed if nobody else did.

    Raises:
        RunBusy: It is going on, with or without the command that started it.
    """
    with folders.held(folder):
        run = record.read(folder)
        if not is_open(run):
            return run
        container = container_of(client, folder)
        if container is not None and container.status not in ("exited", "dead", "created"):
            raise RunBusy(
                f"The run {run.name} is going on, though the command that started it is gone.",
                f"`invoke logs {run.name} -f` shows it, `invoke stop {run.name}` ends it.",
            )
        return _complete(container, run, folder)


def _complete(container: "Container | None", run: Run, folder: Path) -> Run:
    state = dict(container.attrs["State"]) if container else {"ExitCode": 137, "Removed": True}
    stopped_by = lifecycle.STOP_VERB if folders.is_asked_to_stop(folder) else None
    owner = user.of_folder(folder)
    ending = ending_of(
        folder,
        run,
        state,
        stopped_by=stopped_by,
        duration_s=_duration(state),
        engine_lost=container is None,
    )
    run = lifecycle.close(run, ending)
    if container is not None:
        _save_log(container, folder, owner)
        netrc = _source(container, contract.NETRC)
        _redact(folder, netrc)
        run = folders.finish(folder, run, owner)
        process.remove(container)
        _forget_key(netrc)
        return run
    return folders.finish(folder, run, owner)


def ending_of(
    folder: Path,
    run: Run,
    state: dict[str, Any],
    *,
    stopped_by: str | None,
    duration_s: float,
    engine_lost: bool,
) -> Ending:
    """Return the facts about the end of *run*, from the engine's ``State`` of its container."""
    return Ending(
        exit_code=int(state["ExitCode"]),
        duration_s=duration_s,
        stopped_by=stopped_by,
        out_of_memory=bool(state.get("OOMKilled")),
        removed=bool(state.get("Removed")),
        engine_lost=engine_lost,
        disk_full=surroundings.is_full(folder),
        missing_data=surroundings.missing(data.source for data in run.data),
    )


def _duration(state: dict[str, Any]) -> float:
    began, ended = _time(state.get("StartedAt", "")), _time(state.get("FinishedAt", ""))
    return max(0.0, (ended - began).total_seconds()) if began and ended else 0.0


def _time(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(_FRACTION.sub("", text))
    except ValueError:
        return None


def _save_log(container: "Container", folder: Path, owner: tuple[int, int]) -> None:
    """Append what the container printed after its follower's death."""
    with contextlib.suppress(Exception):  # The record is worth more than its log.
        whole = container.logs()
        with folders.open_log(folder, owner) as log:
            log.write(rest(_read(folder / contract.LOG), whole))


def _read(path: Path) -> bytes:
    with files.open_plain(path) as file:
        return file.read()


def rest(saved: bytes, whole: bytes) -> bytes:
    """Return what of *whole*, a container's output, is not at the end of *saved* yet."""
    start = saved.find(whole[:KNOWN_BY]) if whole else -1
    while start >= 0:
        if whole.startswith(saved[start:]):
            return whole[len(saved) - start :]
        start = saved.find(whole[:KNOWN_BY], start + 1)
    return whole


def _redact(folder: Path, netrc: Path | None) -> None:
    with contextlib.suppress(OSError, IndexError):
        if netrc is not None:
            words = netrc.read_text(encoding="utf-8").split()
            keys.redact(folder, keys.Key(value=words[words.index("password") + 1], source=""))


def _forget_key(netrc: Path | None) -> None:
    """Remove the key's file, which the dead command could not."""
    if netrc is not None and netrc.name == "netrc" and netrc.parent.name.startswith("samerun-"):
        shutil.rmtree(netrc.parent, ignore_errors=True)
