"""
The variables that a user gives a run: with ``--env``, or in the host's environment.

``--env`` is for plain settings. Their values are in the record, so a secret is refused, and so
are variables that samerun sets itself or that would change what runs. From the host's
environment only settings of the machine are passed on, which change no result: those of NCCL, gloo
and CUDA, without which some machines can't train on several GPUs at all, and how threads wait.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from samerun.core import contract, result_variables
from samerun.core.errors import UsageError

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_LONGEST = 4096

_SET = "samerun sets it"
_HOST = "it is taken from your environment: set it there, or use the option of `invoke train`"
_CODE = "it would run code other than what is recorded"
_FILE = "it names a file or a plug-in, which is not in the record"
_SECRET = "it looks like a secret, and its value would be in the record and in W&B"  # noqa: S105
_PROMISE = "results depend on it, so samerun sets it: see --seed and --fast"

REFUSED: Final = (
    (r"SAMERUN_\w*|NETRC|WANDB_(DOCKER|ERROR_REPORTING|RESUME|RUN_ID)", _SET),
    ("|".join((*contract.FORWARDED, *contract.PROXIES)), _HOST),
    (r"PYTHONHASHSEED|CUBLAS_WORKSPACE_CONFIG", _PROMISE),
    (r"LD_\w*|PYTHON\w*|GLIBC_TUNABLES|GCONV_PATH|BASH_ENV", _CODE),
    (
        r"PATH|HOME|USER|LOGNAME|XDG_CACHE_HOME|(TORCH|FASTAI)_HOME|MPLCONFIGDIR|WANDB_\w*DIR",
        "the image sets it",
    ),
    (
        r"(CUDA|NVIDIA)_VISIBLE_DEVICES|NVIDIA_(DRIVER|REQUIRE|DISABLE)_\w*",
        "use --gpus, which checks and records the GPUs",
    ),
    (
        r"((LOCAL|GROUP|ROLE)_)?(RANK|WORLD_SIZE)|MASTER_(ADDR|PORT)|(TORCHELASTIC|PET)_\w*",
        "the launcher sets it: use --procs and --nodes",
    ),
    (r"ACCELERATE_(USE_CPU|TORCH_DEVICE)", "use --gpus, or --gpus 0 for the CPU"),
    (r"NCCL_(?!DEBUG_FILE)\w*(PLUGIN|FILE|PATH)\w*", _FILE),
)
"""Patterns of names that can't be given, with the reason."""

FORWARDED: Final = re.compile(
    r"(NCCL|TORCH_NCCL|GLOO)_\w+|CUDA_(LAUNCH_BLOCKING|DEVICE_ORDER)|PYTORCH_(CUDA_)?ALLOC_CONF"
    r"|OMP_WAIT_POLICY|GOMP_SPINCOUNT"
)
"""Names that are passed on from the host's environment."""

_FORWARDED_VALUE = re.compile(r"[\w.,:;^=+/@%*<>\[\]-]{0,256}", re.ASCII)
# A file of the host is not in the container.
_OF_HOST = re.compile(r"\w*(PLUGIN|FILE|PATH|DIR|DUMP)\w*")
# They name interfaces, adapters or addresses of one machine.
_OF_ONE_MACHINE = re.compile(r"\w+_IFNAME|NCCL_(SOCKET|IB|NET|COMM|HOSTID|CROSS)\w*")
PATTERNS: Final = {
    "WANDB_FINISH_TIMEOUT": r"[0-9]{1,6}",
    "OMP_WAIT_POLICY": r"(?i:active|passive)",
    "GOMP_SPINCOUNT": r"[0-9]{1,12}|(?i:infinite|infinity)",
    "CUDA_LAUNCH_BLOCKING": r"[01]",
    "CUDA_DEVICE_ORDER": r"FASTEST_FIRST|PCI_BUS_ID",
}

_SECRET_NAME = re.compile(
    r"PASSWORD|PASSWD|PASSPHRASE|SECRET|CREDENTIAL|COOKIE"
    r"|(KEYS?|TOKENS?|AUTH|PASS|PWD)(_|$)|(^|_)KEY"
)
_SECRET_VALUE = re.compile(
    # W&B's keys, old and new; logins in addresses; keys of other services; PEM; JWT.
    r"(?<![0-9A-Za-z])[0-9A-Fa-f]{40}(?![0-9A-Za-z])|wandb_v[0-9]+_\w+|://[^/\s]*@"
    r"|\b(gh[a-z]|github_pat|glpat|hf|sk|xox[a-z])[-_]\w{16,}|\bAKIA[0-9A-Z]{16}\b"
    r"|-----BEGIN|\beyJ[\w-]{10,}\.[\w-]+"
)
# MAX_TOKENS=512 counts something.
_COUNTED = re.compile(r"\w*TOKENS?=[0-9]{1,6}")


def parse(given: Sequence[str]) -> dict[str, str]:
    """
    Return the variables of each ``--env NAME=VALUE``.

    Raises:
        UsageError: One has another form, is refused, or was given twice.
    """
    variables: dict[str, str] = {}
    for text in given:
        name, separator, value = text.partition("=")
        if not separator or not _NAME.fullmatch(name):
            raise UsageError(f"Invalid value for --env: {name!r}.", "Use the form NAME=VALUE.")
        reason = objection(name, value)
        if reason:
            raise UsageError(f"--env {name} is not allowed: {reason}.", _remedy(reason))
        if name in variables:
            raise UsageError(f"--env {name} was given twice.", "Give it once.")
        variables[name] = value
    return variables


def _remedy(reason: str) -> str:
    if reason == _SECRET:
        return (
            "The W&B key is found without it (WANDB_API_KEY, ~/.netrc, --api-key-file). Put "
            "another secret into a file of --data; a setting that is none needs another name."
        )
    return "Remove it (docs/contract.md#variables-of-your-own lists what can be given)."


def objection(name: str, value: str) -> str:
    """Return why a run can't be given this variable; empty if it can."""
    for pattern, reason in REFUSED:
        if re.fullmatch(pattern, name):
            return reason
    if _is_secret(name, value):
        return _SECRET
    if len(value) > _LONGEST or not value.isprintable():
        return f"its value must be at most {_LONGEST} printable characters on one line"
    if not _is_valid(name, value):
        return f"{value!r} is not a valid value for it"
    return ""


def _is_secret(name: str, value: str) -> bool:
    if _SECRET_VALUE.search(value):
        return True
    return bool(_SECRET_NAME.search(name.upper())) and not _COUNTED.fullmatch(f"{name}={value}")


def _is_valid(name: str, value: str) -> bool:
    if name in result_variables.PATTERNS:
        return result_variables.fits(name, value)
    return re.fullmatch(PATTERNS.get(name, ".*"), value) is not None


def listed(variables: Mapping[str, str]) -> dict[str, str]:
    """Return *variables*, given with ``--env``, and the list of their names for the record."""
    names = ",".join(sorted(variables))
    return {**variables, contract.ENV_VARIABLES: names} if variables else {}


def is_forwarded(name: str) -> bool:
    """Whether the variable is one that is passed on from the host's environment."""
    return bool(FORWARDED.fullmatch(name)) and not _OF_HOST.fullmatch(name)


def forwarded(host: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of the *host* that are passed on to a run."""
    return {name: value for name, value in host.items() if value and _passes(name, value)}


def notes(environment: Mapping[str, str], host: Mapping[str, str]) -> list[str]:
    """Return what to tell the user about the *host*'s settings and a start's *environment*."""
    own = sorted(name for name, value in host.items() if value and FORWARDED.fullmatch(name))
    taken = [f"{name}={host[name]}" for name in own if environment.get(name) == host[name]]
    others = [name for name in own if environment.get(name) != host[name]]
    lines = [f"From your environment: {', '.join(taken)}."] if taken else []
    if others:
        lines.append(
            f"Not taken from your environment: {', '.join(others)} (docs/contract.md#environment)."
        )
    return lines


def _passes(name: str, value: str) -> bool:
    fits = _FORWARDED_VALUE.fullmatch(value) is not None
    return is_forwarded(name) and fits and not objection(name, value)


def named(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return the names of the variables in *environment* that were given with ``--env``."""
    names = environment.get(contract.ENV_VARIABLES, "")
    return tuple(name for name in names.split(",") if name in environment)


def of_record(environment: Mapping[str, str]) -> dict[str, str]:
    """
    Return what ``--env`` gave a start with this recorded *environment*.

    The record may be another's, so each variable is checked again.
    """
    return _allowed(environment, named(environment))


def resumed(environment: Mapping[str, str], host: Mapping[str, str]) -> dict[str, str]:
    """
    Return the variables of the next start, on this *host*, of a run.

    Those on which results depend stay as recorded; settings of the host are today's.
    """
    before = _allowed(environment, filter(is_forwarded, environment))
    return before | listed(of_record(environment)) | _without_effect(forwarded(host))


def reproduced(environment: Mapping[str, str], host: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of a rerun: settings of a machine are those of this *host*."""
    before = of_record(environment)
    kept = {name: before[name] for name in before if not _OF_ONE_MACHINE.fullmatch(name)}
    return listed(kept) | _without_effect(forwarded(host))


def _without_effect(variables: Mapping[str, str]) -> dict[str, str]:
    return {n: v for n, v in variables.items() if n not in result_variables.PATTERNS}


def _allowed(environment: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    values = {name: environment[name] for name in names if _NAME.fullmatch(name)}
    return {name: value for name, value in values.items() if not objection(name, value)}
