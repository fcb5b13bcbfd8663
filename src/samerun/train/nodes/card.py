"""
The card of a node, which describes it to the others, and the comparison of cards.

torch's rendezvous would start nodes that differ in image, seed or data, and the result would
not be reproducible. So every node first writes a card (see `rendezvous`), and node 0 compares.
"""

import dataclasses
import os
import shlex
import socket
from collections.abc import Mapping, Sequence
from typing import Any

from samerun.core import contract, record, result_variables
from samerun.core.errors import RecordError
from samerun.core.placement import NodePlacement
from samerun.train.report import reporting

Card = dict[str, Any]


def card(
    command: Sequence[str], *, place: NodePlacement, seed: int, procs: int, threads: int
) -> Card:
    """
    Return this node's card: its host, and the values that must be the same on all nodes.

    Image and data come from the record. A container started by a cluster may have none;
    unknown values are not compared.
    """
    run = _record()
    must = {
        "command": shlex.join(command),
        "seed": seed,
        "nodes": f"{place.needed}:{place.count}" if place.is_elastic else str(place.count),
        "processes per node": procs,
        "image": (run.image.layers_digest or run.image.digest if run else _expected_digest())
        or None,
        "data": record.fingerprints(run.data) if run else None,
        "determinism": run.determinism if run else None,
        "variables": _variables(),
    }
    hardware = dataclasses.asdict(run.hardware) if run else {}
    # The host name in a container is random.
    host = (run.hardware.host if run else "") or socket.gethostname()
    return {"host": host, "must": must, "threads": threads, "hardware": hardware}


def _variables() -> str:
    """Return the variables on which results depend; the nodes agree on the threads later."""
    own = result_variables.among(os.environ)
    own.pop(result_variables.THREADS, None)
    return ", ".join(f"{name}={own[name]}" for name in sorted(own)) or "none"


def _record() -> record.Run | None:
    try:
        return record.read(reporting.folder()) if reporting.is_recorded() else None
    except RecordError:
        return None


def _expected_digest() -> str:
    return os.environ.get(contract.ENV_IMAGE, "").rpartition("sha256:")[2]


def disagreement(cards: Mapping[int, Mapping[str, Any]]) -> str:
    """Return one line per value in which a node differs from node 0; empty if all agree."""
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
    """Return the name of the node *rank* for messages."""
    return f"Node {rank} ({cards[rank]['host']})" if rank in cards else f"Node {rank}"
