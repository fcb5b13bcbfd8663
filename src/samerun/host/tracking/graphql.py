"""W&B's GraphQL, for what the host asks itself: it does without the package ``wandb``."""

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
    A W&B server and the key for it, which is in no ``repr``.

    *problem* is what it means for the caller if the server does not answer.
    """

    base_url: str
    key: keys.Key = field(repr=False)
    problem: type[SamerunError] = SyncIncomplete

    def query(self, document: str, variables: dict[str, Any]) -> dict[str, Any]:
        """
        Return the ``data`` that the server answers with.

        Raises:
            KeyFileError: It refuses the key.
            SamerunError: *problem*: it does not answer, or with an error.
        """
        import requests

        try:
            # A redirect would carry the key to wherever it leads.
            answer = requests.post(
                f"{self.base_url}/graphql",
                json={"query": document, "variables": variables},
                auth=("api", self.key.value),
                timeout=TIMEOUT_S,
                allow_redirects=False,
            )
            if answer.status_code in REFUSED:
                raise KeyFileError(
                    f"W&B at {self.base_url} refuses the key from {self.key.source}.",
                    "Take a valid one from your W&B settings, and check WANDB_BASE_URL.",
                )
            if answer.status_code != HTTPStatus.OK:
                raise self._failed(f"answers {answer.status_code}")
            content = answer.json()
        except (requests.exceptions.RequestException, ValueError) as error:
            raise self._failed(f"can't be reached: {type(error).__name__}") from error
        if not isinstance(content, dict) or content.get("errors"):
            what = str(content.get("errors") if isinstance(content, dict) else content)
            raise self.problem(f"W&B at {self.base_url} answers: {what[:300]}", "Try again later.")
        return dict(content.get("data") or {})

    def _failed(self, how: str) -> SamerunError:
        remedy = "Check WANDB_BASE_URL and the network, or try again later."
        return self.problem(f"W&B at {self.base_url} {how}.", remedy)


def connect(key: keys.Key, problem: type[SamerunError] = SyncIncomplete) -> Api:
    """Return that server, to be asked with *key*."""
    return Api(base_url=server.base_url(), key=key, problem=problem)
