"""
The environment of a container, from the facts of its start.

The host's side, a container that it did not start, and the files for clouds each know other
facts, and each adds what is its own; what follows from them is written here, once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from samerun.core import contract

OFFLINE_MODES = ("offline", "dryrun", "disabled")


@dataclass(frozen=True, kw_only=True)
class Facts:
    """
    What a start's environment follows from.

    *forwarded* are W&B's settings as the user has them. *checkpoints* is a policy's text as the
    container reads it; empty: none are written.
    """

    image: str
    tags: Sequence[str] = ()
    forwarded: Mapping[str, str]
    online: bool = False
    has_data: bool = False
    has_terminal: bool = False
    seed: int | None = None
    checkpoints: str = ""
    fast: bool = False
    stop_on_nan: bool = False


def wandb_is_online(mode: str | None, *, has_key: bool) -> bool:
    """Whether W&B is to be reached: there is a key, and *mode* (WANDB_MODE) does not forbid it."""
    return has_key and mode not in OFFLINE_MODES


def present(variables: Mapping[str, str]) -> dict[str, str]:
    """Return *variables* without the empty ones: ``WANDB_TAGS=""`` makes ``wandb.init`` raise."""
    return {name: value for name, value in variables.items() if value}


def environment(facts: Facts) -> dict[str, str]:
    """Return the variables that follow from *facts*, none of them empty."""
    mode = facts.forwarded.get("WANDB_MODE") or ("" if facts.online else "offline")
    values = {
        **facts.forwarded,
        "WANDB_MODE": mode,
        # Shown by W&B on the run's page, and read by its own tools.
        "WANDB_DOCKER": facts.image,
        "WANDB_TAGS": ",".join(facts.tags),
        "WANDB_FINISH_TIMEOUT": str(contract.FINISH_TIMEOUT_S) if facts.online else "",
        # Else wandb asks the network for a minute at exit of an offline run.
        "WANDB_ERROR_REPORTING": "false" if mode == "offline" else "",
        contract.ENV_DATA: contract.DATA if facts.has_data else "",
        contract.ENV_PROGRESS: "1" if facts.has_terminal else "",
        contract.ENV_SEED: "" if facts.seed is None else str(facts.seed),
        contract.ENV_CHECKPOINTS: facts.checkpoints,
        contract.ENV_FAST: "1" if facts.fast else "",
        contract.ENV_STOP_ON_NAN: "1" if facts.stop_on_nan else "",
    }
    return present(values)
