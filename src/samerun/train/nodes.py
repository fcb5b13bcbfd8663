"""
Several nodes, one training: meet, compare, and only then start.

torch's own rendezvous would start nodes that disagree on image, seed or data, and the
result would be nobody's. So every node first lays down a card in the store that node 0
serves at the rendezvous' address, and node 0 compares. The same server is then torch's.
"""

import dataclasses
import fcntl
import json
import os
import shlex
import socket
import struct
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from samerun import contract, record
from samerun.errors import NodesDisagree, RecordError, RendezvousFailed
from samerun.train import reporting

DEFAULT_TIMEOUT_S = 300
# Node 0 serves the store: it stays until the others have read the verdict.
FAREWELL_S = 10
SIOCGIFADDR = 0x8915
# The server of node 0 ends with the last store in its process that uses it, and torch's
# rendezvous on another node may connect before that of node 0 does.
_held: list[Any] = []


@dataclass(frozen=True, kw_only=True)
class Nodes:
    """The place of this node among *count*; *endpoint* is node 0's ``HOST:PORT``."""

    count: int = 1
    rank: int = 0
    endpoint: str = ""
    timeout_s: int = DEFAULT_TIMEOUT_S

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the rendezvous."""
        host, _, port = self.endpoint.rpartition(":")
        return host, int(port)


def card(command: Sequence[str], *, seed: int, procs: int, threads: int) -> dict[str, Any]:
    """
    Return what this node tells the others: who it is, and what must be the same on all.

    Image and data come from the record; one that a cluster started may have none, and what
    is not known is not compared.
    """
    run = _record()
    must = {
        "command": shlex.join(command),
        "seed": seed,
        "processes per node": procs,
        "image": (run.image.layers_digest or run.image.digest if run else _told_digest()) or None,
        "data": _data(run) if run else None,
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


def _data(run: record.Run) -> str | None:
    """Return the data's fingerprints; None where one was not taken."""
    found = [entry.fingerprint for entry in run.data]
    return None if None in found else ", ".join(map(str, found))


def _told_digest() -> str:
    return os.environ.get(contract.ENV_IMAGE, "").rpartition("sha256:")[2]


def meet(nodes: Nodes, card: Mapping[str, Any]) -> list[dict[str, Any]]:
    """
    Return every node's card, in the order of their ranks, once all agree.

    A card's ``must`` is compared, its ``host`` names the node in messages.

    Raises:
        RendezvousFailed: Node 0, or another node, did not come in time, or twice.
        NodesDisagree: With who differs in what.
    """
    store = _store(nodes)
    _held.append(store)
    _lay_down(store, nodes, {**card, "id": uuid.uuid4().hex})
    if nodes.rank == 0:
        missing = _wait(store, nodes)
        store.set("samerun/missing", json.dumps(missing))
    else:
        missing = _told_missing(store, nodes)
    cards = [] if missing else [json.loads(store.get(_key(n))) for n in range(nodes.count)]
    _part(store, nodes, expected=nodes.count - len(missing))
    if missing:
        raise RendezvousFailed(
            f"{_listed(missing)} of {nodes.count} did not come within {nodes.timeout_s} s.",
            f"Start each with --rdzv {nodes.endpoint} and its own --node-rank.",
        )
    problem = disagreement(cards)
    if problem:
        raise NodesDisagree(problem, "Start every node with the same image, command and data.")
    return cards


def disagreement(cards: Sequence[Mapping[str, Any]]) -> str:
    """Return who differs from node 0 in what, a line each; empty where all agree."""
    first = cards[0]
    lines = []
    for rank, card in enumerate(cards[1:], start=1):
        for name, value in first["must"].items():
            other = card["must"].get(name)
            if None not in (value, other) and other != value:
                lines.append(
                    f"Node {rank} ({card['host']}) has {name} {other}, "
                    f"node 0 ({first['host']}) has {value}."
                )
    return "\n".join(lines)


def _key(rank: int) -> str:
    return f"samerun/card/{rank}"


def _store(nodes: Nodes) -> Any:
    from torch.distributed import TCPStore

    host, port = nodes.address
    if nodes.rank:
        _await_port(nodes)
    try:
        return TCPStore(
            host,
            port,
            is_master=nodes.rank == 0,
            wait_for_workers=False,
            timeout=timedelta(seconds=nodes.timeout_s),
            # torch's rendezvous opens the same port in this process later.
            multi_tenant=True,
        )
    except (RuntimeError, ValueError, TimeoutError) as error:
        # DistError is a RuntimeError; its text ends with a stack of C++ frames.
        what = str(error).splitlines()[0] if str(error) else repr(error)
        raise RendezvousFailed(_unreachable(nodes, what), _remedy(nodes)) from None


def _await_port(nodes: Nodes) -> None:
    """Wait until node 0 listens; torch's own waiting fills the log with stacks of C++."""
    ends = time.monotonic() + nodes.timeout_s
    while True:
        try:
            socket.create_connection(nodes.address, timeout=5).close()
        except OSError as error:
            if time.monotonic() > ends:
                what = _unreachable(nodes, error.strerror or str(error))
                raise RendezvousFailed(what, _remedy(nodes)) from None
            time.sleep(0.2)
        else:
            return


def _unreachable(nodes: Nodes, what: str) -> str:
    if nodes.rank == 0:
        return f"Node 0 can't serve the rendezvous at {nodes.endpoint}: {what}."
    return f"Node 0 did not answer at {nodes.endpoint} within {nodes.timeout_s} s: {what}."


def _remedy(nodes: Nodes) -> str:
    if nodes.rank == 0:
        return "--rdzv names an address of node 0 itself, and a free port."
    return "Is node 0 started, and does its firewall let this port and those of NCCL or gloo in?"


def _lay_down(store: Any, nodes: Nodes, card: Mapping[str, Any]) -> None:
    # What stands there afterwards is ours, or the card of another node of this rank.
    mine = json.dumps(card)
    there = store.compare_set(_key(nodes.rank), "", mine).decode()
    if there != mine:
        raise RendezvousFailed(
            f"There is a node {nodes.rank} already: {json.loads(there)['host']}.",
            "Give every node its own --node-rank, 0 to one less than --nodes.",
        )


def _wait(store: Any, nodes: Nodes) -> list[int]:
    """Wait until every card lies there; return the nodes that did not come in time."""
    ends = time.monotonic() + nodes.timeout_s
    while True:
        missing = [n for n in range(nodes.count) if not store.check([_key(n)])]
        if not missing or time.monotonic() > ends:
            return missing
        time.sleep(0.05)


def _told_missing(store: Any, nodes: Nodes) -> list[int]:
    """Return what node 0 found to be missing; it may have started to wait later than we."""
    try:
        store.wait(["samerun/missing"], timedelta(seconds=nodes.timeout_s + FAREWELL_S))
    except (RuntimeError, TimeoutError):
        raise RendezvousFailed(
            f"Node 0 at {nodes.endpoint} ended before all nodes had come.",
            "Its own log says why.",
        ) from None
    missing: list[int] = json.loads(store.get("samerun/missing"))
    return missing


def _listed(ranks: Sequence[int]) -> str:
    return f"Node{'s' if len(ranks) > 1 else ''} {', '.join(map(str, ranks))}"


def _part(store: Any, nodes: Nodes, expected: int) -> None:
    """Say goodbye; node 0 waits for *expected* of them, because the store ends with it."""
    gone = store.add("samerun/gone", 1)
    ends = time.monotonic() + FAREWELL_S
    while nodes.rank == 0 and gone < expected and time.monotonic() < ends:
        time.sleep(0.05)
        gone = store.add("samerun/gone", 0)


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
