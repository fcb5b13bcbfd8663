"""A container that must not outlive the command that started it."""

import contextlib
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from samerun.core import contract
from samerun.host.container.spec import ContainerSpec

if TYPE_CHECKING:
    from docker.models.containers import Container

SIGNALS = (signal.SIGTERM, signal.SIGHUP)


def run(spec: ContainerSpec, **streams: Any) -> subprocess.CompletedProcess[str]:
    """
    Run *spec* to its end; the container is removed whatever ends this command.

    After SIGKILL only the next command can remove it: see `is_foreground`.
    """
    remove(spec)
    with interruptible():
        try:
            return subprocess.run(_marked(spec), text=True, check=False, **streams)
        except BaseException:
            remove(spec)
            raise


def remove(spec: ContainerSpec) -> None:
    """Remove the container of *spec*, if there is one, and end it first if it is running."""
    command = ["docker", "rm", "--force", f"samerun-{spec.run}"]
    subprocess.run(command, capture_output=True, check=False)


def is_foreground(container: "Container") -> bool:
    """
    Whether *container* was started by `run`, and so must not outlive its command.

    Not every container with ``--rm`` was: SkyPilot starts its own, and people do.
    """
    return contract.LABEL_FOREGROUND in (container.labels or {})


def _marked(spec: ContainerSpec) -> list[str]:
    program, verb, *options = spec.argv()
    return [program, verb, f"--label={contract.LABEL_FOREGROUND}=yes", *options]


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the command as Ctrl-C does, so that it can clean up."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, _end) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(number: int, frame: Any) -> None:
    sys.exit(128 + number)
