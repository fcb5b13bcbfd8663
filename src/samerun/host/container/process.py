"""The life of one container: start, state, stop, removal."""

import contextlib
import dataclasses
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samerun.core import contract
from samerun.core.errors import EngineMissing
from samerun.core.record import Mount
from samerun.host.container import start_errors
from samerun.host.container.spec import ContainerSpec

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container


# How long an engine may be unavailable before a run counts as lost.
ENGINE_AWAY_S = 120.0
# The exit code of `docker run` if the container did not start.
CANNOT_START = 125


def with_key(spec: ContainerSpec, netrc: Path | None, place: str = contract.NETRC) -> ContainerSpec:
    """Return *spec* with the key file mounted at *place*, if there is one."""
    if netrc is None:
        return spec
    mount = Mount(source=str(netrc), target=place)
    environment = {**spec.environment, "NETRC": place}
    return dataclasses.replace(spec, mounts=(*spec.mounts, mount), environment=environment)


def start(client: "DockerClient", launch: ContainerSpec) -> "Container":
    """
    Start the container; convert the engine's errors to samerun's.

    Raises:
        NoGpu, ImageNotFound, UsageError, OutputError, EngineMissing: By the engine's message.
    """
    # In a new session, so that Ctrl-C does not interrupt the start.
    done = subprocess.run(
        launch.argv(), capture_output=True, text=True, check=False, start_new_session=True
    )
    if done.returncode == 0:
        return client.containers.get(done.stdout.strip())
    # Remove a container that was created but could not start.
    if "is already in use" not in done.stderr:
        remove = ["docker", "rm", "--force", f"samerun-{launch.run}"]
        subprocess.run(remove, capture_output=True, check=False)
    raise start_errors.explain(done.stderr)


def _wait(container: "Container", lost: list[bool]) -> None:
    """Wait for the end; add to *lost* if the connection to the engine broke before."""
    try:
        container.wait()
    except Exception:  # noqa: BLE001 - `state_of` queries the engine again
        lost.append(True)


def state_of(container: "Container") -> dict[str, Any]:
    """
    Return the engine's state of a container that has ended; wait if the engine is restarting.

    Raises:
        EngineMissing: The engine does not come back.
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
                    f"The engine has not responded for {ENGINE_AWAY_S:.0f} s.",
                    "Start it, then run `invoke runs`, which completes the record.",
                ) from error
            time.sleep(1)


def remove(container: "Container") -> None:
    """Remove a container that has ended, if it still exists."""
    _quiet(lambda: container.remove(force=True))


def stop_container(container: "Container") -> None:
    """Send SIGTERM, and SIGKILL after the time for a checkpoint."""
    _quiet(lambda: container.stop(timeout=contract.STOP_TIMEOUT_S))


def _quiet(call: Callable[[], Any]) -> None:
    from docker.errors import APIError

    with contextlib.suppress(APIError):  # It may have ended in the meantime.
        call()
