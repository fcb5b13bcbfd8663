"""
The environment of a container, derived from facts about its start.

The host, standalone containers, and the files for clouds know different facts, and each adds
its own variables. The common variables are derived here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from samerun.core import contract

OFFLINE_MODES = ("offline", "dryrun", "disabled")


@dataclass(frozen=True, kw_only=True)
class Facts:
    """
    The facts from which the environment of a start is derived.

    *forwarded* are the user's W&B settings. *checkpoints* is a policy in the container's format;
    empty means no checkpoints. *gpus* is the number for this machine; None: not checked.
    """

    image: str
    tags: Sequence[str] = ()
    forwarded: Mapping[str, str]
    online: bool = False
    gpus: int | None = None
    has_data: bool = False
    # Columns of the terminal; None without one.
    terminal: int | None = None
    seed: int | None = None
    checkpoints: str = ""
    fast: bool = False
    stop_on_nan: bool = False
    # The folder in the container that stands for the one in which the user was.
    reads_from: str = ""


def wandb_is_online(mode: str | None, *, has_key: bool) -> bool:
    """Whether W&B is used online: there is a key, and *mode* (WANDB_MODE) is not offline."""
    return has_key and mode not in OFFLINE_MODES


def present(variables: Mapping[str, str]) -> dict[str, str]:
    """Return *variables* without the empty ones: ``WANDB_TAGS=""`` makes ``wandb.init`` raise."""
    return {name: value for name, value in variables.items() if value}


def environment(facts: Facts) -> dict[str, str]:
    """Return the non-empty variables derived from *facts*."""
    mode = facts.forwarded.get("WANDB_MODE") or ("" if facts.online else "offline")
    values = {
        **facts.forwarded,
        "WANDB_MODE": mode,
        # Shown on the run's page in W&B, and read by W&B's tools.
        "WANDB_DOCKER": facts.image,
        "WANDB_TAGS": ",".join(facts.tags),
        "WANDB_FINISH_TIMEOUT": str(contract.FINISH_TIMEOUT_S) if facts.online else "",
        # Otherwise wandb tries to use the network for a minute at the end of an offline run.
        "WANDB_ERROR_REPORTING": "false" if mode == "offline" else "",
        contract.ENV_DATA: contract.DATA if facts.has_data else "",
        contract.ENV_GPUS: "" if facts.gpus is None else str(facts.gpus),
        contract.ENV_PROGRESS: str(facts.terminal) if facts.terminal else "",
        contract.ENV_SEED: "" if facts.seed is None else str(facts.seed),
        contract.ENV_CHECKPOINTS: facts.checkpoints,
        contract.ENV_FAST: "1" if facts.fast else "",
        contract.ENV_STOP_ON_NAN: "1" if facts.stop_on_nan else "",
        contract.ENV_READS_FROM: facts.reads_from,
    }
    return present(values)
