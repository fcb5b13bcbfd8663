"""Recover runs whose command died: find their container, and complete their record."""

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
from samerun.host.container.log import Plain
from samerun.host.machine import user
from samerun.host.run import folders
from samerun.host.tracking import keys

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

OPEN = ("prepared", "running")
# Number of bytes used to find the start of a container's output in the log.
KNOWN_BY = 16
# Nanoseconds, which Python can't parse.
_FRACTION = re.compile(r"\.\d+")


def container_of(client: "DockerClient", folder: Path) -> "Container | None":
    """Return the container, running or ended, that has *folder* mounted; None if there is none."""
    labeled = {"label": f"{contract.LABEL_RUN}={folder.name}"}
    for container in client.containers.list(all=True, filters=labeled):
        if output_of(container) == folder:
            return container
    return None


def containers(client: "DockerClient") -> "list[Container]":
    """Return the containers of all runs on this engine."""
    return list(client.containers.list(all=True, filters={"label": contract.LABEL_RUN}))


def output_of(container: "Container") -> Path | None:
    """Return the run's folder, from the container's mounts."""
    return _source(container, contract.OUTPUT)


def _source(container: "Container", target: str) -> Path | None:
    for mount in container.attrs.get("Mounts", ()):
        if mount.get("Destination") == target:
            return Path(mount["Source"])
    return None


def is_open(run: Run) -> bool:
    """
    Whether the host must still complete the record.

    A standalone container completes its own record, perhaps on another machine.
    """
    return run.written_by == "host" and run.outcome.state in OPEN


def settle(client: "DockerClient", folder: Path) -> Run:
    """
    Return the record of the run in *folder*, completed if necessary.

    Raises:
        RunBusy: The run is in progress, with or without the command that started it.
    """
    with folders.held(folder):
        run = record.read(folder)
        if not is_open(run):
            return run
        container = container_of(client, folder)
        if container is not None and container.status not in ("exited", "dead", "created"):
            raise RunBusy(
                f"The run {run.name} is still in progress; the command that started it has died.",
                f"Follow it: `invoke logs {run.name} -f`. Stop it: `invoke stop {run.name}`.",
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
    """Return the facts about the end of *run*, with the engine's ``State`` of its container."""
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
    """Append what the container printed after the death of its command."""
    with contextlib.suppress(Exception):  # The record must be completed even without its log.
        whole = Plain().of(container.logs())
        with folders.open_log(folder, owner) as log:
            log.write(rest(_read(folder / contract.LOG), whole))


def _read(path: Path) -> bytes:
    with files.open_plain(path) as file:
        return file.read()


def rest(saved: bytes, whole: bytes) -> bytes:
    """Return the part of *whole*, a container's output, that is not yet at the end of *saved*."""
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
    """Remove the key file, which the command could not remove because it died."""
    if netrc is not None and netrc.name == "netrc" and netrc.parent.name.startswith("samerun-"):
        shutil.rmtree(netrc.parent, ignore_errors=True)
