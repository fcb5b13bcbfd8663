"""Which W&B server is used: what `WANDB_BASE_URL` names, else W&B's own."""

import os
from collections.abc import Mapping
from urllib.parse import urlsplit

from samerun.core.errors import UsageError

DEFAULT_URL = "https://api.wandb.ai"


def base_url(variables: Mapping[str, str] = os.environ) -> str:
    """
    Return the server's address without a slash at its end; an empty variable counts as unset.

    Raises:
        UsageError: WANDB_BASE_URL is not an http or https address.
    """
    url = (variables.get("WANDB_BASE_URL") or "").strip().rstrip("/") or DEFAULT_URL
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(
            f"WANDB_BASE_URL is not an address: {url!r}",
            "Set it to e.g. https://wandb.example.com.",
        )
    return url


def host(variables: Mapping[str, str] = os.environ) -> str:
    """Return the server as its netrc entry names it: with the port, if it has one."""
    return urlsplit(base_url(variables)).netloc.rpartition("@")[2]
