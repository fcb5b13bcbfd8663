"""The number of machines and this one's rank, from a cluster's environment."""

import os
from collections.abc import Mapping

from samerun.core import contract
from samerun.core.errors import UsageError
from samerun.core.placement import DEFAULT_PORT, NodePlacement

# Variables that Kubeflow Trainer sets for torchrun.
TRAINER = ("PET_NNODES", "PET_NODE_RANK", "PET_MASTER_ADDR", "PET_MASTER_PORT")


def from_environment(variables: Mapping[str, str] = os.environ) -> NodePlacement:
    """
    Return the placement from our variables, else from Kubeflow Trainer's, else one machine.

    Raises:
        UsageError: A value is not a number, or the values contradict each other.
    """
    nnodes, node_rank, address, port = (variables.get(name, "") for name in TRAINER)
    values = {
        contract.ENV_NODES: nnodes or "1",
        contract.ENV_NODE_RANK: node_rank or "0",
        contract.ENV_RDZV: f"{address}:{port or DEFAULT_PORT}" if address else "",
    }
    values |= {name: variables[name] for name in values if variables.get(name)}
    least, count = _range(values[contract.ENV_NODES])
    rank = _number(contract.ENV_NODE_RANK, values[contract.ENV_NODE_RANK])
    if not 0 < (count if least is None else least) <= count or rank >= count:
        raise UsageError(
            f"{contract.ENV_NODE_RANK}={rank} is not one of {count} machines, counted from 0.",
            f"Set {contract.ENV_NODES} to the same value on every machine and "
            f"{contract.ENV_NODE_RANK} to a different one, 0 to {count - 1}.",
        )
    if count > 1 and not values[contract.ENV_RDZV]:
        raise UsageError(
            f"{count} machines need a rendezvous address, but {contract.ENV_RDZV} is not set.",
            f"Set {contract.ENV_RDZV}=HOST:PORT to the first machine's address.",
        )
    endpoint = values[contract.ENV_RDZV] if count > 1 else ""
    return NodePlacement(count=count, least=least, rank=rank, endpoint=endpoint)


def _range(text: str) -> tuple[int | None, int]:
    """Parse ``2``, or ``1:2`` as in torchrun."""
    least, _, most = text.rpartition(":")
    name = contract.ENV_NODES
    return _number(name, least) if least else None, _number(name, most)


def _number(name: str, text: str) -> int:
    if not text.isdecimal():
        raise UsageError(
            f"{name}={text!r} is not a number.", "Set it to a whole number, 0 or more."
        )
    return int(text)
