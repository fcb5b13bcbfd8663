"""
`--docker-arg`: flags that samerun passes on to `docker run`, and why it refuses others.

This is an allow-list of flags with one plain value each. The whole value must match the
flag's pattern, and flag and value stay one argument, so that a value can't contain another
flag. Flags that Docker adds in the future are refused until they are added here.
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
    # Without a dot, because labels with dots control reverse proxies and updaters.
    "--label": r"[a-z][a-z0-9_-]{0,62}=[A-Za-z0-9 _.,:/@-]{0,255}",
    "--memory-reservation": _SIZE,
    # Not negative: the kernel would kill the host's processes before the run.
    "--oom-score-adj": r"[0-9]{1,3}|1000",
    # The name of a runtime registered by root; not a path, which the engine would execute.
    "--runtime": r"[a-z][a-z0-9-]{0,62}",
    "--ulimit": rf"({_LIMITS})=(-1|[0-9]{{1,12}})(:(-1|[0-9]{{1,12}}))?",
}
"""Flags that are passed on, with the pattern for the whole value."""

REPEATABLE = ("--add-host", "--dns", "--dns-search", "--label", "--ulimit")

_ROOT = "it would give the run root privileges on this machine"
_FILES = "it would give the run access to files on this machine: use --data instead"
_SECRET = "its value would be visible in the record and in `docker inspect`"  # noqa: S105
_SPACE = "it would put the run into the host's or another container's namespace"
_OPEN = "it would open the run to the network"
_ISOLATION = "it would weaken or replace the isolation of the run"
_OTHER = "it would run something other than what is recorded"

REFUSED: dict[str, str] = {
    "--annotation": "it controls the engine's hooks, which run as root",
    "--cap-add": _ROOT,
    "--cap-drop": "all capabilities are already dropped",
    "--cgroup-parent": _SPACE,
    "--cgroupns": _SPACE,
    "--cidfile": "it writes a file as the user of this command; the container is samerun-NAME",
    "--cpu-rt-period": "a run with real-time priority can starve the host",
    "--cpu-rt-runtime": "a run with real-time priority can starve the host",
    "--detach": "samerun follows the run itself",
    "--device": "access to a device such as a disk is access to the host: use --gpus for GPUs",
    "--device-cgroup-rule": _ROOT,
    "--device-read-bps": _ROOT,
    "--device-write-bps": _ROOT,
    "--entrypoint": _OTHER,
    "--env": "use --env of `invoke train`, which checks that it is no secret",
    "--env-file": f"{_SECRET}; use --env of `invoke train` for plain settings",
    "--expose": _OPEN,
    "--gpus": "use --gpus of `invoke train`, which checks driver and memory",
    "--group-add": "a group of the host, such as docker or disk, may give root privileges",
    "--init": "it is always set",
    "--ip": _OPEN,
    "--ipc": f"{_SPACE}; for more shared memory use --shm-size",
    "--isolation": _ISOLATION,
    "--label-file": _FILES,
    "--link": _SPACE,
    "--log-driver": "the log would leave this machine, or be lost",
    "--log-opt": "the log would leave this machine, or be lost",
    "--mac-address": _OPEN,
    "--memory": "use --memory of `invoke train`",
    "--memory-swap": "swap is off, so that --memory is the actual limit",
    "--mount": _FILES,
    "--name": "use --name of `invoke train`",
    "--net": "use --network of `invoke train`",
    "--network": "use --network of `invoke train`",
    "--network-alias": _OPEN,
    "--no-healthcheck": _OTHER,
    "--oom-kill-disable": "a run out of memory would hang forever, and so would the host",
    "--pid": f"{_SPACE}: it could read and stop all processes there",
    "--pids-limit": "use --pids-limit of `invoke train`",
    "--platform": _OTHER,
    "--privileged": _ROOT,
    "--publish": _OPEN,
    "--publish-all": _OPEN,
    "--pull": "the image is always the one with the digest in the record",
    "--read-only": "it is always set",
    "--restart": "restarts by the engine are not recorded: use --restarts of `invoke train`",
    "--rm": "samerun removes the container itself, after reading its exit state",
    "--security-opt": "it can turn off seccomp, AppArmor or no-new-privileges",
    "--shm-size": "use --shm-size of `invoke train`",
    "--stop-signal": "the launcher handles only SIGTERM",
    "--stop-timeout": "torch's launcher needs the default time",
    "--storage-opt": _ISOLATION,
    "--sysctl": "it changes kernel settings",
    "--tmpfs": "it would hide a folder of the image; /tmp is already a tmpfs",
    "--use-api-socket": "access to the engine's socket gives root privileges on this machine",
    "--user": "a run always has the caller's user, and is never root",
    "--userns": _SPACE,
    "--uts": _SPACE,
    "--volume": _FILES,
    "--volume-driver": _FILES,
    "--volumes-from": _FILES,
    "--workdir": "the working directory is always /output",
}
"""Common flags of `docker run` that are refused, with the reason to print."""


def parse(given: Sequence[str]) -> tuple[str, ...]:
    """
    Return *given* as arguments of `docker run`, each ``--flag=value`` in one piece.

    Args:
        given: The value of each ``--docker-arg``: ``--cpus=2`` or ``--cpus 2``.

    Raises:
        UsageError: A flag is not in the list, its value is invalid, or it was given twice.
    """
    arguments: list[str] = []
    seen: set[str] = set()
    for text in given:
        flag, value = _split(text)
        _check(flag, value, text)
        if flag in seen and flag not in REPEATABLE:
            raise _refusal(text, f"{flag} was given twice, and Docker would ignore one of them")
        seen.add(flag)
        arguments.append(f"{flag}={value}")
    return tuple(arguments)


def _split(text: str) -> tuple[str, str]:
    """Split at the first ``=`` or blank, as Docker's parser does."""
    match = re.match(r"(--[a-z][a-z-]*)(?:[= ](.*))?\Z", text, re.DOTALL)
    if match is None:
        raise _refusal(text, "the form is --flag=value, with the long flag in lower case")
    return match[1], (match[2] or "").strip(" ")


def _check(flag: str, value: str, text: str) -> None:
    if flag in REFUSED:
        raise _refusal(text, REFUSED[flag])
    if flag not in ALLOWED:
        raise _refusal(text, f"{flag} is not in the list of allowed flags")
    fits = re.fullmatch(ALLOWED[flag], value, re.ASCII)
    if not fits or not CHECKS.get(flag, _any)(value):
        raise _refusal(text, f"invalid value for {flag}: {value!r}" if value else "it has no value")


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
        f"--docker-arg {text!r} is not allowed: {reason}.",
        f"Allowed flags: {', '.join(ALLOWED)} (docs/security.md).",
    )
