"""Which of a job's failures is its cause: the first that does not follow from another."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

# Errors of a process whose peer failed: they are consequences, not the cause.
FOLLOWS = re.compile(
    r"connection (was )?(closed|reset|refused)|broken pipe|nccl|gloo|socket ?timeout|DistBackend",
    re.IGNORECASE,
)
# NCCL's watchdog aborts a process that waited too long for another one.
ABORTED = "signal 6"
LOST = "communication failed"
_OWN_KINDS = ("out of memory", "shared memory full", "GPU failed", "index out of range on the GPU")


def is_consequence(failure: Mapping[str, Any]) -> bool:
    """Whether the process of *failure*, its report, probably failed because another did."""
    if failure.get("kind") in _OWN_KINDS:
        return False
    what = str(failure.get("what", ""))
    return failure.get("kind") == LOST or what == ABORTED or FOLLOWS.search(what) is not None


def time_of(failure: Mapping[str, Any]) -> float:
    """Return the seconds of *failure* since the epoch; infinity if they are unknown."""
    time = failure.get("time")
    return time if isinstance(time, float) else float("inf")


def first(failures: Iterable[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the report of the failure that caused the others; None if there is none."""
    return min(failures, key=lambda one: (is_consequence(one), time_of(one)), default=None)
