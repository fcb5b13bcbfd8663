"""The environment of the container."""

from samerun.core import contract

OFFLINE_MODES = ("offline", "dryrun", "disabled")


def wandb_is_online(mode: str | None, *, has_key: bool) -> bool:
    """Whether W&B is to be reached: there is a key, and *mode* (WANDB_MODE) does not forbid it."""
    return has_key and mode not in OFFLINE_MODES


def present(variables: dict[str, str]) -> dict[str, str]:
    """Return *variables* without the empty ones."""
    return {name: value for name, value in variables.items() if value}


def environment(
    forwarded: dict[str, str],
    image_reference: str,
    tags: tuple[str, ...],
    *,
    has_key: bool,
    has_data: bool,
    has_terminal: bool,
    seed: int,
) -> dict[str, str]:
    """
    Return the container's environment.

    Empty variables are dropped: ``WANDB_TAGS=""`` makes ``wandb.init`` raise.
    """
    values = present(forwarded) | {
        contract.ENV_RECORD: f"{contract.OUTPUT}/{contract.RECORD}",
        contract.ENV_SEED: str(seed),
        # Shown by W&B on the run's page, and read by its own tools.
        "WANDB_DOCKER": image_reference,
        "WANDB_TAGS": ",".join(tags),
    }
    if has_key:
        values["NETRC"] = contract.NETRC
        values["WANDB_FINISH_TIMEOUT"] = str(contract.FINISH_TIMEOUT_S)
    else:
        values.setdefault("WANDB_MODE", "offline")
    if values.get("WANDB_MODE") == "offline":
        # Else wandb asks the network for a minute at exit of an offline run.
        values["WANDB_ERROR_REPORTING"] = "false"
    if has_terminal:
        values[contract.ENV_PROGRESS] = "1"
    if has_data:
        values[contract.ENV_DATA] = contract.DATA
    return values
