"""The W&B server in use: `WANDB_BASE_URL`, else W&B's own."""

import ipaddress
import os
from collections.abc import Mapping
from urllib.parse import urlsplit

from samerun.core.errors import UsageError

DEFAULT_URL = "https://api.wandb.ai"


def base_url(variables: Mapping[str, str] = os.environ) -> str:
    """
    Return the server's URL without a trailing slash; an empty variable counts as unset.

    Raises:
        UsageError: WANDB_BASE_URL is not an http or https URL.
    """
    url = (variables.get("WANDB_BASE_URL") or "").strip().rstrip("/") or DEFAULT_URL
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(
            f"Invalid value for WANDB_BASE_URL: {url!r}.",
            "Set it to an http or https URL, e.g. https://wandb.example.com.",
        )
    return url


def is_this_machine(variables: Mapping[str, str] = os.environ) -> bool:
    """Whether the server's address is a loopback one, which is another machine in a container."""
    name = urlsplit(base_url(variables)).hostname or ""
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")


def unreachable(network: str | None, variables: Mapping[str, str] = os.environ) -> str:
    """Return why a container on *network* does not reach the server; empty if it may."""
    if network == "host" or not is_this_machine(variables):
        return ""
    return (
        f"WANDB_BASE_URL is {base_url(variables)}, and a container reaches this machine by such an "
        "address only with --network host."
    )


def host(variables: Mapping[str, str] = os.environ) -> str:
    """Return the server's host, with its port if it has one, as in netrc entries."""
    return urlsplit(base_url(variables)).netloc.rpartition("@")[2]
