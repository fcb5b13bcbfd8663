"""The placement of a node in a job of several, from `invoke train --nodes`, and its checks."""

import re
from dataclasses import dataclass

from samerun.core.errors import UsageError

DEFAULT_TIMEOUT_S = 300
DEFAULT_PORT = 29400
ENDPOINT = re.compile(r"(?P<host>[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?):(?P<port>[0-9]{1,5})")
RANGE = re.compile(r"((?P<least>[0-9]{1,5}):)?(?P<most>[0-9]{1,5})")
LARGEST_PORT = 65535
# Nodes connect to each other on many ports that are not known in advance.
NETWORK = "host"


@dataclass(frozen=True, kw_only=True)
class NodePlacement:
    """
    The placement of this machine among *count*; *endpoint* is node 0's ``HOST:PORT``.

    With *least*, the job continues without lost nodes while at least so many remain.
    """

    count: int = 1
    least: int | None = None
    rank: int = 0
    endpoint: str = ""
    timeout_s: int = DEFAULT_TIMEOUT_S

    def argv(self) -> list[str]:
        """Return the entrypoint's options; empty for a run on one machine."""
        if self.count == 1:
            return []
        numbers = ["--nodes", str(self.count), "--node-rank", str(self.rank)]
        if self.is_elastic:
            numbers += ["--least-nodes", str(self.least)]
        return [*numbers, "--rdzv", self.endpoint, "--rdzv-timeout", str(self.timeout_s)]

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the rendezvous."""
        host, _, port = self.endpoint.rpartition(":")
        return host, int(port)

    @property
    def is_elastic(self) -> bool:
        """Whether the number of nodes may change during the job."""
        return self.needed < self.count

    @property
    def needed(self) -> int:
        """The minimum number of nodes."""
        return self.least or self.count

    def named(self, run: str) -> str:
        """Return the run's name on this node; node 0 uses the job's name."""
        return f"{run}-node{self.rank}" if self.rank else run


ALONE = NodePlacement()


def shown(least: int | None, count: int) -> str:
    """Return a number of nodes in the syntax of `--nodes`."""
    return str(count) if least in (None, count) else f"{least}:{count}"


def parse(text: str) -> tuple[int | None, int]:
    """
    Parse ``2``, or ``1:2`` as in torchrun: the minimum number of nodes, if given, and all.

    Raises:
        UsageError: It has another form.
    """
    match = RANGE.fullmatch(text)
    most = int(match["most"]) if match else 0
    least = int(match["least"]) if match and match["least"] else None
    if not 0 < (most if least is None else least) <= most:
        raise UsageError(
            f"Invalid value for --nodes: {text!r}.",
            "Use e.g. 2, or MIN:MAX such as 1:2 to continue while at least MIN nodes remain.",
        )
    return least, most


def check_placement(place: NodePlacement) -> None:
    """
    Refuse an invalid placement.

    Raises:
        UsageError: A value is invalid; the message holds the value and the rule.
    """
    if not 0 <= place.rank < place.count:
        raise UsageError(
            f"--node-rank {place.rank} is not one of {place.count} nodes.",
            f"Use 0 to {place.count - 1}, each once.",
        )
    if place.count == 1:
        if place.endpoint:
            raise UsageError(
                "--rdzv was given without --nodes.", "Give the number of nodes with --nodes."
            )
        return
    match = ENDPOINT.fullmatch(place.endpoint)
    if not match or not 0 < int(match["port"]) <= LARGEST_PORT:
        invalid = f"Invalid value for --rdzv: {place.endpoint!r}."
        raise UsageError(
            invalid if place.endpoint else f"--nodes {place.count} requires --rdzv HOST:PORT.",
            "Give the address of node 0, the same on every node, e.g. 10.0.0.4:29400.",
        )
    if place.timeout_s < 1:
        raise UsageError(
            f"--rdzv-timeout {place.timeout_s} must be positive.", "Give seconds, e.g. 300."
        )
