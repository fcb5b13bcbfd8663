"""One process below this one: started, passed signals, waited for; orphans are buried."""

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
# What the kernel counts of the container's own memory: cgroup 2, and 1.
COUNTERS = ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control")


@dataclass(frozen=True, kw_only=True)
class End:
    """How the process ended: 128 + n for signals, and the last signal that it was passed."""

    code: int
    # By a clock that nobody can set back.
    duration_s: float
    signal: str | None
    out_of_memory: bool


def leave_at_once() -> None:
    """
    End this process with 75 at a signal: nothing has begun, so start it again.

    The kernel passes to PID 1 only those signals that it asked for.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        # No clean-up: threads may be reading a bucket for another hour.
        signal.signal(number, lambda *_: os._exit(contract.EXIT_PREEMPTED))


def supervise(command: Sequence[str], variables: Mapping[str, str]) -> End:
    """Run *command* with *variables* added to the environment, and return how it ended."""
    before, received, began = out_of_memory_kills(), [], time.monotonic()
    # A group of its own: Ctrl-C reaches it once, not from the terminal and from us as well.
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
    """Let *group* read from the terminal, where there is one: a debugger may ask something."""
    with contextlib.suppress(OSError):
        if os.tcgetpgrp(0) == os.getpgrp():
            os.tcsetpgrp(0, group)


def _wait(child: "subprocess.Popen[bytes]") -> int:
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == child.pid:
            # Else Popen would wait for a process that is gone.
            child.returncode = os.waitstatus_to_exitcode(status)
            return child.returncode


def _send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def out_of_memory_kills() -> int:
    """Return how often the kernel has killed a process here for want of memory."""
    for path in COUNTERS:
        try:
            lines = Path(path).read_text(encoding="utf-8").splitlines()
        except OSError:
            continue
        pairs = (line.partition(" ")[::2] for line in lines)
        return sum(int(number) for name, number in pairs if name == "oom_kill")
    return 0
