"""
Download the record of a W&B run through W&B's GraphQL API, without the package ``wandb``.

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
# Larger than the record of a million epochs, but small enough for the host's memory.
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
    """The path of a run in W&B."""

    entity: str
    project: str
    id: str

    def __str__(self) -> str:
        return f"{self.entity}/{self.project}/{self.id}"


def fetch(path: Path, key: keys.Key | None) -> dict[str, bytes]:
    """
    Return the files of the record that the run at *path* logged, by name.

    Raises:
        KeyFileError: There is no key, or W&B rejects it.
        RecordError: W&B does not respond, or the run has no record there.
    """
    if key is None:
        raise KeyFileError(
            f"{path} is a run in W&B, but no W&B key was found.",
            "Set WANDB_API_KEY, run `wandb login`, or pass --api-key-file.",
        )
    artifact = _artifact(path, key)
    if artifact is None or artifact["artifactType"]["name"] != ARTIFACT_TYPE:
        raise RecordError(
            f"W&B at {server.base_url()} has no record of {path}.",
            "Check the path: entity/project/id. Only runs in samerun's image have a record: "
            "after their end, or for an offline run after `invoke sync`.",
        )
    nodes = (edge["node"] for edge in artifact["files"]["edges"])
    return {node["name"]: _download(node["directUrl"], key) for node in nodes}


def _artifact(path: Path, key: keys.Key) -> dict[str, Any] | None:
    names = [contract.RECORD, os.path.basename(contract.STEPS)]  # noqa: PTH119 - a name, not a path
    variables = {
        "entity": path.entity,
        "project": path.project,
        "artifact": f"run-record-{path.id}:latest",
        "names": names,
    }
    data = graphql.connect(key, RecordError).query(QUERY, variables)
    artifact: dict[str, Any] | None = (data.get("project") or {}).get("artifact")
    return artifact


def _download(url: str, key: keys.Key) -> bytes:
    """Download a file; the key is sent only to W&B's server, other stores use signed URLs."""
    import requests

    is_own = urlsplit(url)[:2] == urlsplit(server.base_url())[:2]
    auth = ("api", key.value) if is_own else None
    try:
        with requests.get(url, auth=auth, timeout=TIMEOUT_S, stream=True) as response:
            response.raise_for_status()
            content: bytes = response.raw.read(LARGEST_BYTES + 1, decode_content=True)
    except (requests.exceptions.RequestException, OSError) as error:
        raise RecordError(
            f"The record can't be downloaded from {urlsplit(url).netloc}, the address that W&B "
            f"gave: {type(error).__name__}.",
            "Check that this machine can reach that address, and try again.",
        ) from error
    if len(content) > LARGEST_BYTES:
        raise RecordError(
            f"A file of the record is larger than {LARGEST_BYTES} bytes, so it was not read.",
            "Check the run-record artifact on the run's page in W&B: samerun writes smaller ones.",
        )
    return content
