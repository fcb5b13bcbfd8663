"""Start a run's container, follow it, restart it, and record its outcome."""

import contextlib
import dataclasses
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from samerun.core import lifecycle, record
from samerun.core.errors import (
    SamerunError,
)
from samerun.core.record import Run
from samerun.host.container.log import Copying
from samerun.host.container.process import (
    _quiet,
    _wait,
    remove,
    start,
    state_of,
    stop_container,
    with_key,
)
from samerun.host.container.spec import ContainerSpec
from samerun.host.image import pins
from samerun.host.launch.prepare import Prepared
from samerun.host.launch.restart import Restarts, interrupted
from samerun.host.run import folders, integrity, recover
from samerun.host.tracking import keys

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container


Say = Callable[[str], None]


class Stop:
    """Signals to this process: the first stops the container, the second kills it."""

    def __init__(self) -> None:
        self.name: str | None = None
        self._count = self._done = 0

    def handle(self, number: int, frame: Any) -> None:
        """Count a signal, without interrupting anything."""
        self.name = self.name or signal.Signals(number).name
        self._count += 1

    def act(self, container: "Container") -> None:
        """Stop or kill *container* for the signals since the last call."""
        while self._done < self._count:
            self._done += 1
            if self._done == 1:
                _stop_in_background(container, str(self.name))
            else:
                _quiet(container.kill)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Following:
    """The values shared by all starts of a run."""

    client: "DockerClient"
    spec: ContainerSpec
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
    Run *prepared* to its end, with up to *restarts* restarts, and return the complete record.

    The record is written before each start, and in any case after its end.
    """
    uid, gid = owner = _owner(prepared.spec)
    folder = prepared.folder
    if not prepared.resumes:
        folders.make(folder, prepared.patch, owner)
    with folders.held(folder), _signals() as stop:
        run = dataclasses.replace(
            prepared.run, launch=prepared.spec.launch(), arguments=tuple(prepared.spec.argv())
        )
        folders.write(folder, run, owner)
        integrity.put(folder, run)
        pins.keep(client, run.image, folder)
        with folders.open_log(folder, owner) as log, keys.lent(key, uid, gid) as netrc:
            following = Following(
                client=client,
                spec=with_key(prepared.spec, netrc),
                folder=folder,
                owner=owner,
                log=log,
                stop=stop,
            )
            return _repeat(following, run, key, say, restarts)


def _repeat(following: Following, run: Run, key: keys.Key | None, say: Say, restarts: int) -> Run:
    """Start the run, and restart it while it is interrupted and the user did not stop it."""
    policy = Restarts(restarts, following.folder)
    while True:
        run = _once(following, run, key)
        if restarts == 0 or not interrupted(run) or following.stop.name or _is_stopped(run):
            return run
        refusal = policy.refusal(run)
        if refusal:
            say(f"The run is not restarted: {refusal}.")
            return run
        run = lifecycle.restarted(run)
        say(f"The run was interrupted; restarting (start {run.outcome.restarts + 1}).")


def _is_stopped(run: Run) -> bool:
    return run.outcome.reason == lifecycle.STOP_VERB


def _once(following: Following, run: Run, key: keys.Key | None) -> Run:
    """Start the container once, and follow it until its end."""
    folder, owner = following.folder, following.owner
    folders.forget_failure(folder)
    folders.reserve(folder, owner)
    try:
        container = start(following.client, following.spec)
    except SamerunError as error:
        failed = run.with_outcome(state="failed", reason=error.what)
        folders.finish(folder, failed, owner)
        raise
    started = run.outcome.started or record.now()
    run = run.with_outcome(state="running", started=started)
    folders.write(folder, run, owner)
    run = _follow(container, run, following)
    keys.redact(folder, key)
    run = folders.finish(folder, run, owner)
    # Removed only after the record is on disk, because the container has the run's facts.
    remove(container)
    return run


def _owner(launch: ContainerSpec) -> tuple[int, int]:
    uid, _, gid = launch.user.partition(":")
    return int(uid), int(gid)


def _follow(container: "Container", run: Run, following: Following) -> Run:
    """Copy the log until the end, and return the record with its outcome."""
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
    ending = recover.ending_of(
        following.folder,
        run,
        state_of(container),
        stopped_by=stopped_by,
        duration_s=time.monotonic() - began,
        engine_lost=bool(lost),
    )
    return lifecycle.close(run, ending)


def _stop_in_background(container: "Container", name: str) -> None:
    print(f"\n{name}: stopping the run (send it again to kill the run).", file=sys.stderr)  # noqa: T201
    stop = threading.Thread(target=stop_container, args=(container,), daemon=True)
    stop.start()


@contextlib.contextmanager
def _signals() -> Iterator[Stop]:
    """Collect SIGINT and SIGTERM during the run."""
    stop = Stop()
    before = {n: signal.signal(n, stop.handle) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
