"""Start one child process, forward signals to it, and wait; reap orphans."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from samerun.core import contract

PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1)
# The kernel's memory counters of the container: cgroup 2, and 1.
COUNTERS = ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control")


@dataclass(frozen=True, kw_only=True)
class End:
    """How the process ended: exit code, 128 + n for signals, and the last forwarded signal."""

    code: int
    # From a monotonic clock.
    duration_s: float
    signal: str | None
    out_of_memory: bool


def leave_at_once() -> None:
    """
    End this process with 75 on a signal, because the training has not started yet.

    The kernel delivers to PID 1 only signals for which it has a handler.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        # Without cleanup, because threads may still read a bucket for an hour.
        signal.signal(number, lambda *_: os._exit(contract.EXIT_PREEMPTED))


def supervise(command: Sequence[str], variables: Mapping[str, str]) -> End:
    """Run *command* with *variables* added to the environment, and return how it ended."""
    before, received, began = out_of_memory_kills(), [], time.monotonic()
    # In a separate group, so that Ctrl-C reaches it once, not also from the terminal.
    child = subprocess.Popen(command, env=os.environ | variables, process_group=0)
    _give_terminal(child.pid)

    def pass_on(number: int, _frame: object) -> None:
        received.append(signal.Signals(number).name)
        _send(child.pid, number)

    for number in PASSED_ON:
        signal.signal(number, pass_on)
    code = _wait(child)
    return End(
        code=128 - code if code < 0 else code,
        duration_s=time.monotonic() - began,
        signal=received[-1] if received else None,
        out_of_memory=out_of_memory_kills() > before,
    )


def _give_terminal(group: int) -> None:
    """Let *group* read from the terminal, if there is one, for example for a debugger."""
    with contextlib.suppress(OSError):
        if os.tcgetpgrp(0) == os.getpgrp():
            os.tcsetpgrp(0, group)


def _wait(child: "subprocess.Popen[bytes]") -> int:
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == child.pid:
            # Otherwise Popen would wait for a process that no longer exists.
            child.returncode = os.waitstatus_to_exitcode(status)
            return child.returncode


def _send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def out_of_memory_kills() -> int:
    """Return how often the kernel has killed a process in this container for lack of memory."""
    for path in COUNTERS:
        try:
            lines = Path(path).read_text(encoding="utf-8").splitlines()
        except OSError:
            continue
        pairs = (line.partition(" ")[::2] for line in lines)
        return sum(int(number) for name, number in pairs if name == "oom_kill")
    return 0
