"""All that the stand-in has, as JSON for tests: `/_admin/state`."""

from __future__ import annotations

import hashlib
from typing import Any

from .records import Artifact, Run
from .store import Store


def state(store: Store) -> dict[str, Any]:
    """Return what is saved, with rows by step, and with manifests and hashes of artifacts."""
    runs = {key: _run(store, run) for key, run in store.runs.items()}
    artifacts = {key: _artifact(store, a) for key, a in store.artifacts.items()}
    return store.state() | {"runs": runs, "artifacts": artifacts, "faults": store.faults}


def _run(store: Store, run: Run) -> dict[str, Any]:
    return vars(run) | {
        "history_by_step": run.history_by_step(),
        "received_by_step": run.received_by_step(),
        "artifacts": {name: artifact.id for name, artifact in store.logged(run).items()},
    }


def _artifact(store: Store, artifact: Artifact) -> dict[str, Any]:
    aliases = store.collections[artifact.collection].aliases
    return vars(artifact) | {
        "name": store.name_of(artifact),
        "aliases": [alias for alias, found in aliases.items() if found == artifact.id],
        "manifest": store.manifest(artifact),
        "blobs": {name: _blob(store, key) for name, key in artifact.files.items()},
    }


def _blob(store: Store, key: str) -> dict[str, Any] | None:
    """Return size, hash and address of a blob, or None before it is put."""
    path = store.blob_path(key)
    if not path.exists():
        return None
    content = path.read_bytes()
    hashed = hashlib.sha256(content).hexdigest()
    return {"size": len(content), "sha256": hashed, "url": store.url(key)}
