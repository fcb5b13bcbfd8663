"""W&B's GraphQL, for what the host asks itself: it does without the package ``wandb``."""

import os
from dataclasses import dataclass, field
from typing import Any

from samerun.errors import KeyFileError, SyncIncomplete
from samerun.host import keys

TIMEOUT_S = 30
REFUSED = (401, 403)


@dataclass(frozen=True, kw_only=True)
class Api:
    """A W&B server and the key for it, which is in no ``repr``."""

    base_url: str
    key: str = field(repr=False)

    def query(self, document: str, variables: dict[str, Any]) -> dict[str, Any]:
        """
        Return the ``data`` that the server answers with.

        Raises:
            KeyFileError: It refuses the key.
            SyncIncomplete: It does not answer, or with an error.
        """
        import requests

        try:
            answer = requests.post(
                f"{self.base_url.rstrip('/')}/graphql",
                json={"query": document, "variables": variables},
                auth=("api", self.key),
                timeout=TIMEOUT_S,
                allow_redirects=False,
            )
            if answer.status_code in REFUSED:
                raise KeyFileError(
                    f"{self.base_url} refuses the key ({answer.status_code}).", "Is it this one's?"
                )
            answer.raise_for_status()
            content = answer.json()
        except (requests.exceptions.RequestException, ValueError) as error:
            raise SyncIncomplete(
                f"{self.base_url} could not be asked: {type(error).__name__}.", "Try again later."
            ) from error
        if not isinstance(content, dict) or content.get("errors"):
            what = str(content.get("errors") if isinstance(content, dict) else content)
            raise SyncIncomplete(f"{self.base_url} answers: {what[:300]}", "Try again later.")
        return dict(content.get("data") or {})


def connect(key: keys.Key) -> Api:
    """Return the server that WANDB_BASE_URL names."""
    return Api(base_url=os.environ.get("WANDB_BASE_URL") or keys.DEFAULT_URL, key=key.value)
