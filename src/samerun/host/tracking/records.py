"""
Read what a W&B run logged, over W&B's GraphQL: the host does without the package ``wandb``.

The record of a run is its artifact ``run-record-ID``; see ``samerun.train.hooks.wandb_sign``.
"""

import os
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from samerun.core import contract
from samerun.core.errors import KeyFileError, RecordError
from samerun.host.tracking import graphql, keys, server

TIMEOUT_S = 30
ARTIFACT_TYPE = "run-record"
# A record of a million epochs is smaller; the host's memory is not.
LARGEST_BYTES = 64 * 2**20

QUERY = """
query SamerunRunRecord($entity: String!, $project: String!, $artifact: String!, $names: [String!]) {
  project(name: $project, entityName: $entity) {
    artifact(name: $artifact) {
      artifactType { name }
      files(names: $names, first: 10) { edges { node { name: displayName directUrl } } }
    }
  }
}
"""


@dataclass(frozen=True, kw_only=True)
class Path:
    """A run's place in W&B."""

    entity: str
    project: str
    id: str

    def __str__(self) -> str:
        return f"{self.entity}/{self.project}/{self.id}"


def fetch(path: Path, key: keys.Key | None) -> dict[str, bytes]:
    """
    Return the files of the record that the run at *path* logged, by their names.

    Raises:
        KeyFileError: There is no key, or W&B refuses it.
        RecordError: W&B does not answer, or the run has no record there.
    """
    if key is None:
        raise KeyFileError(
            f"{path} is in W&B, and no W&B key was found.",
            "Set WANDB_API_KEY, log in with ~/.netrc, or give --api-key-file.",
        )
    artifact = _artifact(path, key)
    if artifact is None or artifact["artifactType"]["name"] != ARTIFACT_TYPE:
        raise RecordError(
            f"W&B has no record of {path} at {server.base_url()}.",
            "Check the path: entity/project/id. Only runs of `invoke train` have a record, "
            "once they have ended (an offline one after `invoke sync`).",
        )
    nodes = (edge["node"] for edge in artifact["files"]["edges"])
    return {node["name"]: _download(node["directUrl"], key) for node in nodes}


def _artifact(path: Path, key: keys.Key) -> dict[str, Any] | None:
    names = [contract.RECORD, os.path.basename(contract.STEPS)]  # noqa: PTH119 - a name, no path
    variables = {
        "entity": path.entity,
        "project": path.project,
        "artifact": f"run-record-{path.id}:latest",
        "names": names,
    }
    answer = graphql.connect(key, RecordError).query(QUERY, variables)
    artifact: dict[str, Any] | None = (answer.get("project") or {}).get("artifact")
    return artifact


def _download(url: str, key: keys.Key) -> bytes:
    """Fetch a file; the key goes to W&B's own server only, other stores sign their addresses."""
    import requests

    is_own = urlsplit(url)[:2] == urlsplit(server.base_url())[:2]
    auth = ("api", key.value) if is_own else None
    try:
        with requests.get(url, auth=auth, timeout=TIMEOUT_S, stream=True) as answer:
            answer.raise_for_status()
            content: bytes = answer.raw.read(LARGEST_BYTES + 1, decode_content=True)
    except (requests.exceptions.RequestException, OSError) as error:
        raise RecordError(
            f"The record can't be fetched from {urlsplit(url).netloc}: {type(error).__name__}.",
            "Try again; W&B named this address.",
        ) from error
    if len(content) > LARGEST_BYTES:
        raise RecordError(f"The record has over {LARGEST_BYTES} bytes.", "It is not read.")
    return content
