"""W&B's GraphQL API, so that the host does not need the package ``wandb``."""

from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from samerun.core.errors import KeyFileError, SamerunError, SyncIncomplete
from samerun.host.tracking import keys, server

TIMEOUT_S = 30
REFUSED = (401, 403)


@dataclass(frozen=True, kw_only=True)
class Api:
    """
    A W&B server and its key, which no ``repr`` shows.

    *problem* is the error to raise if the server does not respond.
    """

    base_url: str
    key: keys.Key = field(repr=False)
    problem: type[SamerunError] = SyncIncomplete

    def query(self, document: str, variables: dict[str, Any]) -> dict[str, Any]:
        """
        Return the ``data`` of the server's response.

        Raises:
            KeyFileError: The server rejects the key.
            SamerunError: *problem*: the server does not respond, or responds with an error.
        """
        import requests

        try:
            # A redirect would send the key to another server.
            response = requests.post(
                f"{self.base_url}/graphql",
                json={"query": document, "variables": variables},
                auth=("api", self.key.value),
                timeout=TIMEOUT_S,
                allow_redirects=False,
            )
            if response.status_code in REFUSED:
                raise KeyFileError(
                    f"W&B at {self.base_url} rejects the key from {self.key.source}.",
                    "Copy a valid key from your W&B settings, and check WANDB_BASE_URL.",
                )
            if response.status_code != HTTPStatus.OK:
                raise self._failed(f"responded with status {response.status_code}")
            content = response.json()
        except (requests.exceptions.RequestException, ValueError) as error:
            raise self._failed(f"can't be reached: {type(error).__name__}") from error
        if not isinstance(content, dict) or content.get("errors"):
            what = str(content.get("errors") if isinstance(content, dict) else content)
            raise self.problem(
                f"W&B at {self.base_url} responded with an error: {what[:300]}", "Try again later."
            )
        return dict(content.get("data") or {})

    def _failed(self, problem: str) -> SamerunError:
        remedy = "Check WANDB_BASE_URL and the network, or try again later."
        return self.problem(f"W&B at {self.base_url} {problem}.", remedy)


def connect(key: keys.Key, problem: type[SamerunError] = SyncIncomplete) -> Api:
    """Return the API of the server in WANDB_BASE_URL, used with *key*."""
    return Api(base_url=server.base_url(), key=key, problem=problem)
