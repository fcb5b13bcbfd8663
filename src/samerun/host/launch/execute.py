"""Start a run's container, follow it, start it again, and write down how it ended."""

import contextlib
import dataclasses
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from samerun.core import contract, lifecycle, record
from samerun.core.errors import (
    DataError,
    EngineMissing,
    ImageNotFound,
    NoGpu,
    OutputError,
    SamerunError,
    UsageError,
)
from samerun.core.record import Run
from samerun.host.container.log import Copying
from samerun.host.container.spec import Launch, Mount
from samerun.host.image import pins
from samerun.host.launch.prepare import Prepared
from samerun.host.launch.restart import Restarts, interrupted
from samerun.host.run import folders, integrity
from samerun.host.tracking import keys

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
# How long an engine may be away, to restart, before a run counts as lost.
ENGINE_AWAY_S = 120.0

Say = Callable[[str], None]


class Stop:
    """The signals to this process: the first stops the container, the second kills it."""

    def __init__(self) -> None:
        self.name: str | None = None
        self._count = self._done = 0

    def handle(self, number: int, frame: Any) -> None:
        """Note a signal; whatever goes on is not torn apart by it."""
        self.name = self.name or signal.Signals(number).name
        self._count += 1

    def act(self, container: "Container") -> None:
        """Do to *container* what the signals since the last call ask for."""
        while self._done < self._count:
            self._done += 1
            if self._done == 1:
                _stop_in_background(container, str(self.name))
            else:
                _quiet(container.kill)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Following:
    """What every start of a run shares."""

    client: "DockerClient"
    launch: Launch
    folder: Path
    owner: tuple[int, int]
    log: BinaryIO
    stop: Stop


def execute(
    client: "DockerClient",
    prepared: Prepared,
    key: keys.Key | None,
    say: Say = lambda _: None,
    restarts: int = 0,
) -> Run:
    """
    Run *prepared* to its end, up to *restarts* times more, and return the complete record.

    The record is written before each start, and after its end whatever happened.
    """
    uid, gid = owner = _owner(prepared.launch)
    folder = prepared.folder
    if not prepared.resumes:
        folders.make(folder, prepared.patch, owner)
    with folders.held(folder), _signals() as stop:
        run = dataclasses.replace(prepared.run, arguments=tuple(prepared.launch.argv()))
        folders.write(folder, run, owner)
        integrity.put(folder, run)
        pins.keep(client, run.image, folder)
        with folders.open_log(folder, owner) as log, keys.lent(key, uid, gid) as netrc:
            following = Following(
                client=client,
                launch=with_key(prepared.launch, netrc),
                folder=folder,
                owner=owner,
                log=log,
                stop=stop,
            )
            return _repeat(following, run, key, say, restarts)


def _repeat(following: Following, run: Run, key: keys.Key | None, say: Say, restarts: int) -> Run:
    """Start the run, and again while it is interrupted and nobody asked it to stop."""
    policy = Restarts(restarts, following.folder)
    while True:
        run = _once(following, run, key)
        if restarts == 0 or not interrupted(run) or following.stop.name or _is_stopped(run):
            return run
        refusal = policy.refusal(run)
        if refusal:
            say(f"The run is not started again: {refusal}.")
            return run
        run = lifecycle.restarted(run)
        say(f"The run was interrupted; start {run.outcome.restarts + 1}.")


def _is_stopped(run: Run) -> bool:
    return run.outcome.reason == lifecycle.STOP_VERB


def _once(following: Following, run: Run, key: keys.Key | None) -> Run:
    """Start the container once and follow it to its end."""
    folder, owner = following.folder, following.owner
    folders.forget_failure(folder)
    folders.reserve(folder, owner)
    try:
        container = start(following.client, following.launch)
    except SamerunError as error:
        failed = run.with_outcome(state="failed", reason=error.what)
        folders.finish(folder, failed, owner)
        raise
    started = run.outcome.started or record.now()
    run = run.with_outcome(state="running", started=started)
    folders.write(folder, run, owner)
    run = _follow(container, run, following)
    keys.redact(folder, key)
    return folders.finish(folder, run, owner)


def with_key(launch: Launch, netrc: Path | None) -> Launch:
    """Return *launch* with the key's file mounted, if there is one."""
    if netrc is None:
        return launch
    mount = Mount(source=str(netrc), target=contract.NETRC)
    return dataclasses.replace(launch, mounts=(*launch.mounts, mount))


def _owner(launch: Launch) -> tuple[int, int]:
    uid, _, gid = launch.user.partition(":")
    return int(uid), int(gid)


def start(client: "DockerClient", launch: Launch) -> "Container":
    """
    Start the container; errors of the engine come out as ours.

    Raises:
        NoGpu, ImageNotFound, UsageError, OutputError, EngineMissing: By what it said.
    """
    # A session of its own: a Ctrl-C meant for us must not cut the start in two.
    done = subprocess.run(
        launch.argv(), capture_output=True, text=True, check=False, start_new_session=True
    )
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


def _follow(container: "Container", run: Run, following: Following) -> Run:
    """Stream the log until the end, and return the record with its outcome."""
    began = time.monotonic()
    copying = Copying(container, following.log)
    lost: list[bool] = []
    waiting = threading.Thread(target=_wait, args=(container, lost), daemon=True)
    for thread in (copying, waiting):
        thread.start()
    while waiting.is_alive():
        waiting.join(0.2)
        following.stop.act(container)
    copying.complete()
    stopped_by = following.stop.name
    if folders.is_asked_to_stop(following.folder):
        stopped_by = lifecycle.STOP_VERB
    run = lifecycle.close(
        run,
        state_of(container),
        stopped_by=stopped_by,
        duration_s=time.monotonic() - began,
        lost=bool(lost),
    )
    remove(container)
    if run.outcome.state == "failed":
        return run.with_outcome(reason=lifecycle.cause(following.folder, run))
    return run


def _wait(container: "Container", lost: list[bool]) -> None:
    """Wait for the end; note in *lost* that the engine went away first."""
    try:
        container.wait()
    except Exception:  # noqa: BLE001 - whatever breaks the line, `state_of` asks again
        lost.append(True)


def state_of(container: "Container") -> dict[str, Any]:
    """
    Return the engine's word on a container that has ended, after the engine is back.

    Raises:
        EngineMissing: It stays away.
    """
    from docker.errors import APIError, NotFound
    from requests.exceptions import RequestException

    until = time.monotonic() + ENGINE_AWAY_S
    while True:
        try:
            container.wait()
            container.reload()
            return dict(container.attrs["State"])
        except NotFound:
            return {"ExitCode": 128 + signal.SIGKILL, "Removed": True}
        except (APIError, RequestException) as error:
            if time.monotonic() > until:
                raise EngineMissing(
                    f"The engine has been away for {ENGINE_AWAY_S:.0f} s.",
                    "Start it; `invoke runs` then completes the record.",
                ) from error
            time.sleep(1)


def remove(container: "Container") -> None:
    """Remove a container that has ended; it may be gone already."""
    _quiet(lambda: container.remove(force=True))


def _stop_in_background(container: "Container", name: str) -> None:
    print(f"\n{name}: stopping the run (again to kill it).", file=sys.stderr)  # noqa: T201
    stop = threading.Thread(target=stop_container, args=(container,), daemon=True)
    stop.start()


def stop_container(container: "Container") -> None:
    """SIGTERM, and SIGKILL after the time that a checkpoint may take."""
    _quiet(lambda: container.stop(timeout=contract.STOP_TIMEOUT_S))


def _quiet(call: Callable[[], Any]) -> None:
    from docker.errors import APIError

    with contextlib.suppress(APIError):  # It may have ended by itself meanwhile.
        call()


@contextlib.contextmanager
def _signals() -> Iterator[Stop]:
    """Collect SIGINT and SIGTERM while the run goes on."""
    stop = Stop()
    before = {n: signal.signal(n, stop.handle) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
