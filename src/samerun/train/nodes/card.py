"""
Several nodes, one training: what each tells the others, and whether that fits.

torch's own rendezvous would start nodes that disagree on image, seed or data, and the
result would be nobody's. So every node first lays down a card (see `meeting`), and node 0
compares.
"""

import dataclasses
import fcntl
import os
import shlex
import socket
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from samerun.core import content, contract, record
from samerun.core.errors import RecordError
from samerun.train.report import reporting

DEFAULT_TIMEOUT_S = 300
SIOCGIFADDR = 0x8915

Card = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Nodes:
    """
    The place of this node among *count*; *endpoint* is node 0's ``HOST:PORT``.

    With *least* the job goes on without nodes that are lost, as long as so many are left.
    """

    count: int = 1
    least: int | None = None
    rank: int = 0
    endpoint: str = ""
    timeout_s: int = DEFAULT_TIMEOUT_S

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the rendezvous."""
        host, _, port = self.endpoint.rpartition(":")
        return host, int(port)

    @property
    def is_elastic(self) -> bool:
        """Whether the number of nodes may change while the job goes on."""
        return self.needed < self.count

    @property
    def needed(self) -> int:
        """The nodes without which there is no training."""
        return self.least or self.count


def card(command: Sequence[str], *, place: Nodes, seed: int, procs: int, threads: int) -> Card:
    """
    Return what this node tells the others: who it is, and what must be the same on all.

    Image and data come from the record; one that a cluster started may have none, and what
    is not known is not compared.
    """
    run = _record()
    must = {
        "command": shlex.join(command),
        "seed": seed,
        "nodes": f"{place.needed}:{place.count}" if place.is_elastic else str(place.count),
        "processes per node": procs,
        "image": (run.image.layers_digest or run.image.digest if run else _told_digest()) or None,
        "data": content.together(d.fingerprint for d in run.data) if run else None,
        "determinism": run.determinism if run else None,
    }
    hardware = dataclasses.asdict(run.hardware) if run else {}
    # A container's own name is a random one.
    host = (run.hardware.host if run else "") or socket.gethostname()
    return {"host": host, "must": must, "threads": threads, "hardware": hardware}


def _record() -> record.Run | None:
    try:
        return record.read(reporting.folder()) if reporting.is_recorded() else None
    except RecordError:
        return None


def _told_digest() -> str:
    return os.environ.get(contract.ENV_IMAGE, "").rpartition("sha256:")[2]


def disagreement(cards: Mapping[int, Mapping[str, Any]]) -> str:
    """Return who, by rank, differs from node 0 in what, a line each; empty where all agree."""
    first = cards[0]
    lines = []
    for rank in sorted(cards):
        for name, value in first["must"].items():
            other = cards[rank]["must"].get(name)
            if None not in (value, other) and other != value:
                lines.append(
                    f"{named(rank, cards)} has {name} {other}, node 0 ({first['host']}) has "
                    f"{value}."
                )
    return "\n".join(lines)


def named(rank: int, cards: Mapping[int, Mapping[str, Any]]) -> str:
    """Return what messages call the node *rank*."""
    return f"Node {rank} ({cards[rank]['host']})" if rank in cards else f"Node {rank}"


def interface_towards(host: str) -> str | None:
    """
    Return the name of the network interface that leads to *host*; None if none is found.

    gloo and NCCL choose by the machine's own name, which Debian and Ubuntu resolve to
    127.0.1.1: no other node reaches that.
    """
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((host, 9))  # Sends nothing; the kernel chooses the way.
            address = probe.getsockname()[0]
    except OSError:
        return None
    return next((name for _, name in socket.if_nameindex() if _ipv4(name) == address), None)


def _ipv4(interface: str) -> str | None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        request = struct.pack("256s", interface.encode()[:15])
        try:
            answer = fcntl.ioctl(probe.fileno(), SIOCGIFADDR, request)
        except OSError:
            return None
    return socket.inet_ntoa(answer[20:24])


def set_interface(nodes: Nodes) -> None:
    """Let gloo and NCCL talk over the interface that leads to node 0, unless told otherwise."""
    name = interface_towards(nodes.address[0])
    if name:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
        if name != "lo":
            os.environ.setdefault("NCCL_SOCKET_IFNAME", name)
