"""How many machines train together, and which one this is, as a cluster's environment tells."""

import os
from collections.abc import Mapping

from samerun.core import contract
from samerun.core.errors import UsageError
from samerun.core.placement import DEFAULT_PORT, NodePlacement

# What Kubeflow's trainer sets for torchrun, whose own options these are.
TRAINER = ("PET_NNODES", "PET_NODE_RANK", "PET_MASTER_ADDR", "PET_MASTER_PORT")


def from_environment(variables: Mapping[str, str] = os.environ) -> NodePlacement:
    """
    Return what our variables say, else what Kubeflow's trainer says, else one machine.

    Raises:
        UsageError: The numbers are none, or do not fit each other.
    """
    nnodes, node_rank, address, port = (variables.get(name, "") for name in TRAINER)
    told = {
        contract.ENV_NODES: nnodes or "1",
        contract.ENV_NODE_RANK: node_rank or "0",
        contract.ENV_RDZV: f"{address}:{port or DEFAULT_PORT}" if address else "",
    }
    told |= {name: variables[name] for name in told if variables.get(name)}
    least, count = _range(told[contract.ENV_NODES])
    rank = _number(contract.ENV_NODE_RANK, told[contract.ENV_NODE_RANK])
    if not 0 < (count if least is None else least) <= count or rank >= count:
        raise UsageError(
            f"Machine {rank} of {count}: they are counted from 0.",
            f"Set {contract.ENV_NODES} to the same value on every machine and "
            f"{contract.ENV_NODE_RANK} to a different one, 0 to {count - 1}.",
        )
    if count > 1 and not told[contract.ENV_RDZV]:
        raise UsageError(
            f"{count} machines need an address to meet at.",
            f"Set {contract.ENV_RDZV}=HOST:PORT, the first machine's.",
        )
    endpoint = told[contract.ENV_RDZV] if count > 1 else ""
    return NodePlacement(count=count, least=least, rank=rank, endpoint=endpoint)


def _range(text: str) -> tuple[int | None, int]:
    """Read ``2``, or as torchrun has it ``1:2``."""
    least, _, most = text.rpartition(":")
    name = contract.ENV_NODES
    return _number(name, least) if least else None, _number(name, most)


def _number(name: str, text: str) -> int:
    if not text.isdecimal():
        raise UsageError(f"{name}={text!r} is no number.", "Set it to a whole number from 0 on.")
    return int(text)
