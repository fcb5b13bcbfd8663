"""Artifacts as clients make and change them: pending, with files, committed, named."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

from .binding import Call, Refused, resolver
from .connections import page
from .records import Artifact, Collection, gid
from .runs import find
from .store import Store


def _artifact(call: Call, values: dict[str, Any]) -> Artifact:
    key = values["artifactID"]
    if key not in call.store.artifacts:
        raise Refused(f"There is no artifact with the id {key}.")
    return call.store.artifacts[key]


def _aliases(values: dict[str, Any]) -> list[str]:
    return [entry["alias"] for entry in values.get("aliases") or []]


def _tags(entries: Iterable[dict[str, str]] | None) -> list[str]:
    return [entry["tagName"] for entry in entries or []]


@resolver("Mutation.createArtifact")
def create(_: Any, call: Call, values: dict[str, Any]) -> dict[str, Any]:
    """Make a version; the one that is there with the same digest is taken instead."""
    store, within = call.store, _collection(call.store, values)
    run = store.runs.get(f"{within.entity}/{within.project}/{values.get('runName')}")
    versions = (store.artifacts[key] for key in within.versions.values())
    found = next((a for a in versions if a.digest == values["digest"]), None)
    if found:
        within.aliases |= dict.fromkeys(_aliases(values), found.id)
    else:
        found = _pending(store, within, values)
        found.run = run.key if run else None
    if run and found.id not in run.logged:
        run.logged.append(found.id)
    return {"artifact": found}


def _collection(store: Store, values: dict[str, Any]) -> Collection:
    project = store.create_project(values["entityName"], values["projectName"])
    name, kind = values["artifactCollectionName"], values["artifactTypeName"]
    made = Collection(entity=project.entity, project=project.name, name=name, type=kind)
    within = store.collections.setdefault(made.key, made)
    if within.type != kind:
        raise Refused(f"The artifact {name} has the type {within.type}, not {kind}.")
    return within


def _pending(store: Store, within: Collection, values: dict[str, Any]) -> Artifact:
    key = gid("Artifact", len(store.artifacts) + 1)
    store.artifacts[key] = Artifact(
        id=key,
        collection=within.key,
        digest=values["digest"],
        description=values.get("description"),
        metadata=values.get("metadata"),
        tags=_tags(values.get("tags")),
        history_step=values.get("historyStep"),
        commit_hash=hashlib.sha1(key.encode()).hexdigest(),
        client_id=values.get("clientID"),
        wanted=_aliases(values),
    )
    return store.artifacts[key]


@resolver("Mutation.createArtifactManifest")
def create_manifest(_: Any, call: Call, values: dict[str, Any]) -> dict[str, Any]:
    """Return where the manifest is to be put."""
    artifact = _artifact(call, values)
    file = {"id": gid("MFile", artifact.id), "name": "manifest.json", "uploadHeaders": []}
    file |= {"storagePath": artifact.manifest}
    file |= dict.fromkeys(("uploadUrl", "directUrl"), call.store.url(artifact.manifest))
    return {"artifactManifest": {"id": gid("Manifest", artifact.id), "file": file}}


@resolver("Mutation.createArtifactFiles")
def create_files(_: Any, call: Call, values: dict[str, Any]) -> dict[str, Any]:
    """Return where each file is to be put."""
    return {"files": page([_new_file(call, file) for file in values["artifactFiles"]])}


def _new_file(call: Call, values: dict[str, Any]) -> dict[str, Any]:
    artifact, name = _artifact(call, values), values["name"]
    key = artifact.files[name] = f"artifact/{artifact.id}/{name}"
    made = {"id": gid("AFile", key), "name": name, "artifact": artifact}
    return made | {"storagePath": key, "uploadUrl": call.store.url(key), "uploadHeaders": []}


@resolver("Mutation.commitArtifact")
def commit(_: Any, call: Call, values: dict[str, Any]) -> dict[str, Any]:
    """Make a pending artifact the latest version."""
    artifact = _artifact(call, values)
    if artifact.state != "COMMITTED":
        artifact.size = sum(call.store.blob_path(k).stat().st_size for k in artifact.files.values())
        call.store.collections[artifact.collection].add(artifact)
    return {"artifact": artifact}


@resolver("Mutation.useArtifact")
def use(_: Any, call: Call, values: dict[str, Any]) -> dict[str, Any]:
    """Note that a run uses an artifact."""
    artifact, run = _artifact(call, values), find(call, values)
    if artifact.id not in run.used:
        run.used.append(artifact.id)
    return {"artifact": artifact}


@resolver("Mutation.updateArtifact")
def update(_: Any, call: Call, values: dict[str, Any]) -> dict[str, Any]:
    """Change what is said of an artifact, and its names."""
    artifact = _artifact(call, values)
    for name in ("metadata", "description"):
        if values.get(name) is not None:
            setattr(artifact, name, values[name])
    if values.get("aliases") is not None:
        within = call.store.collections[artifact.collection]
        others = {k: v for k, v in within.aliases.items() if v != artifact.id}
        within.aliases = others | dict.fromkeys(_aliases(values), artifact.id)
    artifact.tags += _tags(values.get("tagsToAdd"))
    return {"artifact": artifact}


@resolver("Mutation.addAliases")
def add_aliases(_: Any, call: Call, values: dict[str, Any]) -> dict[str, Any]:
    """Give an artifact more names."""
    artifact = _artifact(call, values)
    within = call.store.collections[artifact.collection]
    within.aliases |= dict.fromkeys(_aliases(values), artifact.id)
    return {"success": True}


@resolver("Mutation.deleteAliases")
def delete_aliases(_: Any, call: Call, values: dict[str, Any]) -> dict[str, Any]:
    """Take names off an artifact."""
    within = call.store.collections[_artifact(call, values).collection]
    gone = _aliases(values)
    within.aliases = {k: v for k, v in within.aliases.items() if k not in gone}
    return {"success": True}


@resolver("Mutation.deleteArtifact")
def delete(_: Any, call: Call, values: dict[str, Any]) -> dict[str, Any]:
    """Delete an artifact; one with aliases only if these may go too."""
    artifact = _artifact(call, values)
    within = call.store.collections[artifact.collection]
    held = [k for k, v in within.aliases.items() if v == artifact.id and k != "latest"]
    if held and not values.get("deleteAliases"):
        raise Refused(f"The artifact has the aliases {held}.")
    within.aliases = {k: v for k, v in within.aliases.items() if v != artifact.id}
    within.versions = {k: v for k, v in within.versions.items() if v != artifact.id}
    artifact.state = "DELETED"
    return {"artifact": artifact}
