"""Start a run's container, follow it, and write down how it ended."""

import contextlib
import dataclasses
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from samerun import contract, record
from samerun.errors import (
    DataError,
    EngineMissing,
    ImageNotFound,
    NoGpu,
    OutputError,
    SamerunError,
    UsageError,
)
from samerun.host import keys, user
from samerun.host.launch import Launch, Mount
from samerun.host.log import Copying
from samerun.host.prepare import Prepared
from samerun.record import Run, State

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

# What the engine says when it can't start a container, and what that means.
START_ERRORS: tuple[tuple[str, type[SamerunError], str], ...] = (
    ("could not select device driver", NoGpu, "Run `invoke setup`, or train with --gpus 0."),
    ("nvidia-container-cli", NoGpu, "Run `nvidia-smi`; the driver may need a restart."),
    ("No such image", ImageNotFound, "Build it with `invoke build`."),
    ("bind source path does not exist", DataError, "It vanished after it was checked; try again."),
    ("network .* not found", UsageError, "List them with `docker network ls`."),
    ("is already in use by container", UsageError, "Choose another --name."),
    ("no space left on device", OutputError, "Make room on the engine's disk."),
    (
        r"(?i)unknown flag|invalid|conflicting options|minimum memory|range of CPUs|runtime name",
        UsageError,
        "Check --memory, --shm-size, --network and --docker-arg.",
    ),
)
# The run's folder keeps this much free for the last word, for the day its disk is full.
RESERVE_BYTES = 256 * 1024

# Reasons in the record; `train.remedy` says what to do about each.
OUT_OF_MEMORY = "out of memory"
OUTPUT_FULL = "the disk of the output is full"
DATA_GONE = "the data vanished"


class _Stop(BaseException):
    """A signal to the host process; a BaseException, so that nothing swallows it."""


def execute(client: "DockerClient", prepared: Prepared, key: keys.Key | None) -> Run:
    """
    Run *prepared* to its end and return the complete record.

    The record is written before the start, and again at the end whatever happened.
    """
    uid, gid = owner = _owner(prepared.launch)
    _make_folder(prepared, owner)
    run = dataclasses.replace(prepared.run, arguments=tuple(prepared.launch.argv()))
    _write(prepared.folder, run, owner)
    log = _open_log(prepared.folder, owner)
    with log, _signals(), keys.lent(key, uid, gid) as netrc:
        try:
            container = start(client, with_key(prepared.launch, netrc))
        except SamerunError as error:
            failed = run.with_outcome(state="failed", reason=error.what)
            _finish(prepared.folder, failed, owner)
            raise
        run = run.with_outcome(state="running", started=_now())
        _write(prepared.folder, run, owner)
        run = _follow(container, run, prepared.folder, log)
        keys.redact(prepared.folder, key)
        return _finish(prepared.folder, run, owner)


def with_key(launch: Launch, netrc: Path | None) -> Launch:
    """Return *launch* with the key's file mounted, if there is one."""
    if netrc is None:
        return launch
    mount = Mount(source=str(netrc), target=contract.NETRC)
    return dataclasses.replace(launch, mounts=(*launch.mounts, mount))


def _owner(launch: Launch) -> tuple[int, int]:
    uid, _, gid = launch.user.partition(":")
    return int(uid), int(gid)


def _make_folder(prepared: Prepared, owner: tuple[int, int]) -> None:
    """Make the run's folder and its first files, the property of the run's user."""
    new = [p for p in (prepared.folder, *prepared.folder.parents) if not p.exists()]
    reserve = prepared.folder / contract.RESERVE
    try:
        prepared.folder.mkdir(parents=True)
        if prepared.patch:
            (prepared.folder / contract.PATCH).write_bytes(prepared.patch)
        reserve.write_bytes(os.urandom(RESERVE_BYTES))  # No file system stores that in less.
        for path in (*new, *prepared.folder.iterdir()):
            user.give(path, owner)
    except OSError as error:
        raise OutputError(
            f"{prepared.folder} can't be written: {error.strerror}.", "Choose another --output."
        ) from error


def _write(folder: Path, run: Run, owner: tuple[int, int]) -> None:
    record.write(folder, run)
    user.give(folder / contract.RECORD, owner)


def _open_log(folder: Path, owner: tuple[int, int]) -> BinaryIO:
    """Open the log before the run can lay a link in its place that leads elsewhere."""
    path = folder / contract.LOG
    file = path.open("xb", buffering=0)  # Else a full disk would fail again at closing.
    user.give(path, owner)
    return file


def start(client: "DockerClient", launch: Launch) -> "Container":
    """
    Start the container; errors of the engine come out as ours.

    Raises:
        NoGpu, ImageNotFound, UsageError, OutputError, EngineMissing: By what it said.
    """
    done = subprocess.run(launch.argv(), capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return client.containers.get(done.stdout.strip())
    # A container that was created but could not start stays behind.
    if "is already in use" not in done.stderr:
        remove = ["docker", "rm", "--force", f"samerun-{launch.run}"]
        subprocess.run(remove, capture_output=True, check=False)
    message = done.stderr.strip().splitlines()[0] if done.stderr.strip() else "no message"
    for pattern, error, remedy in START_ERRORS:
        if re.search(pattern, done.stderr):
            raise error(f"The container can't start: {message}", remedy)
    raise EngineMissing(f"The container can't start: {message}", "See `invoke doctor`.")


def _follow(container: "Container", run: Run, folder: Path, log: BinaryIO) -> Run:
    """Stream the log until the end; a signal stops the container, a second one kills it."""
    stopped_by = None
    began = time.monotonic()
    copying = Copying(container, log)
    waiting = threading.Thread(target=container.wait, daemon=True)
    for thread in (copying, waiting):
        thread.start()
    while waiting.is_alive():
        try:
            waiting.join(0.2)
        except _Stop as stop:
            if stopped_by is None:
                stopped_by = str(stop)
                _stop_in_background(container, stopped_by)
            else:
                container.kill()
    copying.complete()
    state = _state(container)
    run = _close(run, state, stopped_by, time.monotonic() - began)
    container.remove(force=True)
    if run.outcome.state == "failed":
        return run.with_outcome(reason=cause(folder, run))
    return run


def cause(folder: Path, run: Run) -> str | None:
    """Return what in the run's surroundings explains its failure, None if nothing does."""
    status = os.statvfs(folder)
    if status.f_bavail * status.f_frsize < RESERVE_BYTES:
        return OUTPUT_FULL
    gone = [data.source for data in run.data if not _is_there(Path(data.source))]
    return f"{DATA_GONE}: {gone[0]}" if gone else None


def _is_there(folder: Path) -> bool:
    try:
        return any(folder.iterdir())
    except OSError:
        return False


def _stop_in_background(container: "Container", name: str) -> None:
    print(f"\n{name}: stopping the run (again to kill it).", file=sys.stderr)  # noqa: T201
    stop = threading.Thread(target=_quiet_stop, args=(container,), daemon=True)
    stop.start()


def _quiet_stop(container: "Container") -> None:
    from docker.errors import APIError

    with contextlib.suppress(APIError):  # It may have ended by itself meanwhile.
        container.stop(timeout=contract.STOP_TIMEOUT_S)


def _state(container: "Container") -> dict[str, Any]:
    container.wait()
    container.reload()
    return dict(container.attrs["State"])


def _close(run: Run, state: dict[str, Any], stopped_by: str | None, duration_s: float) -> Run:
    """Return *run* with its outcome, from what the engine says of the ended container."""
    code = int(state["ExitCode"])
    outcome: State = "finished" if code == 0 else "failed"
    reason = None
    if state.get("OOMKilled"):
        outcome, reason = "killed", OUT_OF_MEMORY
    elif stopped_by:
        outcome, reason = "stopped", stopped_by
    elif code in (128 + signal.SIGKILL, 128 + signal.SIGTERM):
        outcome, reason = "killed", signal.Signals(code - 128).name
    return run.with_outcome(
        state=outcome,
        exit_code=code,
        reason=reason,
        ended=_now(),
        duration_s=round(duration_s, 3),
    )


def _finish(folder: Path, run: Run, owner: tuple[int, int]) -> Run:
    """Write the final record, with all that the container has reported."""
    run = record.assemble(folder, run)
    with contextlib.suppress(OSError):  # The run may have put anything there.
        (folder / contract.RESERVE).unlink(missing_ok=True)
    user.disarm(folder)
    try:
        _write(folder, run, owner)
    except OSError as error:
        raise OutputError(
            f"The record can't be written to {folder}: {error.strerror}; "
            f"the run ended with exit code {run.outcome.exit_code}.",
            "Make room on that disk.",
        ) from error
    return run


@contextlib.contextmanager
def _signals() -> Iterator[None]:
    """Turn SIGINT and SIGTERM into `_Stop` while the run goes on."""

    def handle(number: int, frame: Any) -> None:
        raise _Stop(signal.Signals(number).name)

    before = {n: signal.signal(n, handle) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
