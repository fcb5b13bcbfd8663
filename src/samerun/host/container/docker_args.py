"""
`--docker-arg`: flags of `docker run` that the kit passes on, and why it passes no other.

An allow-list of flags with one plain value each. The value must match the flag's own
pattern as a whole, and flag and value stay one argument, so that nothing can hide in a
value. A flag that Docker gains tomorrow is refused until someone has thought about it.
"""

import ipaddress
import re
from collections.abc import Callable, Sequence

from samerun.core.errors import UsageError

_SIZE = r"[0-9]{1,15}[bkmgBKMG]?"
_CPUS = r"[0-9]{1,4}(-[0-9]{1,4})?(,[0-9]{1,4}(-[0-9]{1,4})?)*"
_HOST = r"[A-Za-z0-9]([A-Za-z0-9-]{0,62})(\.[A-Za-z0-9][A-Za-z0-9-]{0,62})*"
# No real-time limits: with them a run could starve the host.
_LIMITS = "core|cpu|data|fsize|locks|memlock|msgqueue|nofile|nproc|rss|sigpending|stack"

ALLOWED: dict[str, str] = {
    "--add-host": rf"{_HOST}:[0-9A-Fa-f.:]+",
    "--blkio-weight": r"[0-9]{1,4}",
    "--cpu-period": r"[0-9]{1,9}",
    "--cpu-quota": r"[0-9]{1,9}",
    "--cpu-shares": r"[0-9]{1,9}",
    "--cpus": r"[0-9]{1,4}(\.[0-9]{1,4})?",
    "--cpuset-cpus": _CPUS,
    "--cpuset-mems": _CPUS,
    "--dns": r"[0-9A-Fa-f.:]+",
    "--dns-search": _HOST,
    "--hostname": _HOST,
    # Without a dot: such labels steer nobody's reverse proxy or updater.
    "--label": r"[a-z][a-z0-9_-]{0,62}=[A-Za-z0-9 _.,:/@-]{0,255}",
    "--memory-reservation": _SIZE,
    # Never below 0: the kernel would rather kill the host's processes than the run.
    "--oom-score-adj": r"[0-9]{1,3}|1000",
    # The name of a runtime that root has registered; never a path, which the engine would start.
    "--runtime": r"[a-z][a-z0-9-]{0,62}",
    "--ulimit": rf"({_LIMITS})=(-1|[0-9]{{1,12}})(:(-1|[0-9]{{1,12}}))?",
}
"""Flags that are passed on, with what their value must look like as a whole."""

REPEATABLE = ("--add-host", "--dns", "--dns-search", "--label", "--ulimit")

_ROOT = "it gives the run root's powers on this machine"
_FILES = "it would show the run files of this machine: use --data, which is read-only and recorded"
_SECRET = "its value would stand in the record and in `docker inspect`"  # noqa: S105
_SPACE = "it would put the run into the host's or another container's namespace"
_OPEN = "it would open the run to the network"
_CAGE = "it would loosen the cage, or replace a part of it"
_OTHER = "it would run something else than the record says"

REFUSED: dict[str, str] = {
    "--annotation": "it steers the engine's hooks, which run as root",
    "--cap-add": _ROOT,
    "--cap-drop": "all capabilities are dropped already",
    "--cgroup-parent": _SPACE,
    "--cgroupns": _SPACE,
    "--cidfile": "it writes a file as whoever runs the command; the record names the run",
    "--cpu-rt-period": "a run with real-time priority can starve the host",
    "--cpu-rt-runtime": "a run with real-time priority can starve the host",
    "--detach": "the kit itself follows the run",
    "--device": "a device of the host, a disk for one, is the host: GPUs come by --gpus",
    "--device-cgroup-rule": _ROOT,
    "--device-read-bps": _ROOT,
    "--device-write-bps": _ROOT,
    "--entrypoint": _OTHER,
    "--env": f"{_SECRET}; W&B's own settings are taken over from the environment",
    "--env-file": _SECRET,
    "--expose": _OPEN,
    "--gpus": "use --gpus of `invoke train`, which checks driver and memory",
    "--group-add": "a group of the host, such as docker or disk, is a way to its root",
    "--init": "it is set always",
    "--ip": _OPEN,
    "--ipc": f"{_SPACE}; for more shared memory use --shm-size",
    "--isolation": _CAGE,
    "--label-file": _FILES,
    "--link": _SPACE,
    "--log-driver": "the log would leave this machine, or be lost",
    "--log-opt": "the log would leave this machine, or be lost",
    "--mac-address": _OPEN,
    "--memory": "use --memory of `invoke train`",
    "--memory-swap": "swap is off, so that --memory means what it says",
    "--mount": _FILES,
    "--name": "use --name of `invoke train`",
    "--net": "use --network of `invoke train`",
    "--network": "use --network of `invoke train`",
    "--network-alias": _OPEN,
    "--no-healthcheck": _OTHER,
    "--oom-kill-disable": "a run out of memory would hang for ever, and the host with it",
    "--pid": f"{_SPACE}: it could read and stop every process there",
    "--pids-limit": "use --pids-limit of `invoke train`",
    "--platform": _OTHER,
    "--privileged": _ROOT,
    "--publish": _OPEN,
    "--publish-all": _OPEN,
    "--pull": "the image is the one whose digest the record holds, never a fresher one",
    "--read-only": "it is set always",
    "--restart": "a run that starts again by itself has no record",
    "--rm": "the kit removes the container itself, once it has read how it ended",
    "--security-opt": "it can switch off seccomp, AppArmor or no-new-privileges",
    "--shm-size": "use --shm-size of `invoke train`",
    "--stop-signal": "the launcher knows SIGTERM, and no other",
    "--stop-timeout": "torch's launcher needs the time it has",
    "--storage-opt": _CAGE,
    "--sysctl": "it changes kernel settings",
    "--tmpfs": "it would cover a folder of the image; /tmp is one already",
    "--use-api-socket": "who has the engine's socket is root on this machine",
    "--user": "the run's user is the caller, and never root",
    "--userns": _SPACE,
    "--uts": _SPACE,
    "--volume": _FILES,
    "--volume-driver": _FILES,
    "--volumes-from": _FILES,
    "--workdir": "the run's folder is /output",
}
"""Flags of `docker run` that people try, and the reason that they are told."""


def parse(given: Sequence[str]) -> tuple[str, ...]:
    """
    Return *given* as arguments of `docker run`, each ``--flag=value`` in one piece.

    Args:
        given: What stood after each ``--docker-arg``: ``--cpus=2`` or ``--cpus 2``.

    Raises:
        UsageError: A flag that is not in the list, with the reason; a value that does
            not fit its flag; or a flag that was given twice.
    """
    arguments: list[str] = []
    seen: set[str] = set()
    for text in given:
        flag, value = _split(text)
        _check(flag, value, text)
        if flag in seen and flag not in REPEATABLE:
            raise _refusal(text, f"{flag} is there twice, and one would win in silence")
        seen.add(flag)
        arguments.append(f"{flag}={value}")
    return tuple(arguments)


def _split(text: str) -> tuple[str, str]:
    """Split at the first ``=`` or blank, as Docker's own parser would see it."""
    found = re.match(r"(--[a-z][a-z-]*)(?:[= ](.*))?\Z", text, re.DOTALL)
    if found is None:
        shape = "it must look like --flag=value, the flag spelled out in small letters"
        raise _refusal(text, shape)
    return found[1], (found[2] or "").strip(" ")


def _check(flag: str, value: str, text: str) -> None:
    if flag in REFUSED:
        raise _refusal(text, REFUSED[flag])
    if flag not in ALLOWED:
        raise _refusal(text, f"{flag} is not a flag that is passed on")
    fits = re.fullmatch(ALLOWED[flag], value, re.ASCII)
    if not fits or not CHECKS.get(flag, _any)(value):
        raise _refusal(text, f"{value!r} is no value of {flag}" if value else "it has no value")


def _any(value: str) -> bool:
    return True


def _is_address(value: str) -> bool:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return True


def _maps_to_address(value: str) -> bool:
    return _is_address(value.partition(":")[2])


CHECKS: dict[str, Callable[[str], bool]] = {"--dns": _is_address, "--add-host": _maps_to_address}


def _refusal(text: str, reason: str) -> UsageError:
    return UsageError(
        f"--docker-arg {text!r} is not passed on: {reason}.",
        f"Passed on are {', '.join(ALLOWED)} (docs/security.md).",
    )
