"""What is to go wrong, with which requests, and for how long."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

AREAS = ("graphql", "file_stream", "storage", "other")


@dataclass(kw_only=True, eq=False)
class Fault:
    """
    What happens to requests that match, in place of their answer.

    Args:
        path: One of `AREAS`; else requests of all areas match.
        op: Name of the GraphQL operation; else all match.
        times: How many requests; one by default, without a limit where *seconds* is given.
        seconds: How long, counted from the first request that matches.
        status: Code to answer with, and not to do what was asked.
        headers: Headers of that answer.
        body: Text of that answer.
        delay: Seconds to wait before an answer, which without *status* is the usual one.
        hang: Never answer; the connection is closed in the end.
        refuse: Close the connection, and for *seconds* refuse all others, of any area.

    What hangs or refuses ends with *seconds*, with the faults of the store being changed, or
    with the server. *hits* counts the requests that matched.
    """

    path: str | None = None
    op: str | None = None
    times: int | None = None
    seconds: float | None = None
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: str = ""
    delay: float = 0
    hang: bool = False
    refuse: bool = False
    hits: int = 0
    ends: float | None = None  # On the clock of `time.monotonic`, once a request matched.

    def __post_init__(self) -> None:
        """Refuse what would never match, or have no end."""
        if self.path not in (None, *AREAS):
            raise ValueError(f"path is {self.path!r}. Take one of {', '.join(AREAS)}.")
        if self.refuse and self.seconds is None:
            raise ValueError("refuse has no seconds. Say for how long.")
        if self.times is None and self.seconds is None:
            self.times = 1

    @property
    def left(self) -> float | None:
        """Seconds until it ends, or None if it does not end by time."""
        return None if self.ends is None else self.ends - time.monotonic()

    @property
    def is_over(self) -> bool:
        """Whether no more requests match."""
        spent = self.times is not None and self.hits >= self.times
        return spent or (self.left is not None and self.left <= 0)

    def goes_on(self, faults: Sequence[Fault]) -> bool:
        """Return whether what it began still holds, where *faults* are those of the store."""
        return self in faults and (self.left is None or self.left > 0)

    def hit(self) -> None:
        """Count a request that matches."""
        self.hits += 1
        if self.seconds is not None and self.ends is None:
            self.ends = time.monotonic() + self.seconds


def claim(faults: Sequence[Fault], area: str, op: str | None) -> Fault | None:
    """Return the first of *faults* that a request matches, and count it there."""
    for fault in faults:
        if fault.path in (None, area) and fault.op in (None, op) and not fault.is_over:
            fault.hit()
            return fault
    return None
