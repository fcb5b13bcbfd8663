"""Artifacts, and the collections that they are versions of, as clients read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .binding import Call, constants, resolver
from .connections import Page, edges, page
from .records import Artifact, Collection, Project, Run, gid
from .store import Store


@resolver("Query.artifact")
def by_id(_: Any, call: Call, **named: str) -> Artifact | None:
    """Return the artifact with an id."""
    return call.store.artifacts.get(named["id"])


@resolver("Query.clientIDMapping")
def by_client_id(_: Any, call: Call, client_id: str) -> dict[str, Any] | None:
    """Return the id of the artifact that a client made under an id of the client's."""
    found = (a for a in call.store.artifacts.values() if a.client_id == client_id)
    return next(({"serverID": artifact.id} for artifact in found), None)


@resolver("Run.outputArtifacts")
def logged(run: Run, call: Call, **paging: Any) -> Page:
    """Return what a run logged."""
    return page(_committed(call.store, run.logged), **paging)


@resolver("Run.inputArtifacts")
def used(run: Run, call: Call, **paging: Any) -> Page:
    """Return what a run used."""
    return page(_committed(call.store, run.used), **paging)


def _committed(store: Store, ids: Sequence[str]) -> list[Artifact]:
    found = (store.artifacts[key] for key in ids)
    return [artifact for artifact in found if artifact.state == "COMMITTED"]


# --- an artifact


@resolver("Artifact.artifactSequence")
def sequence(artifact: Artifact, call: Call) -> Collection:
    """Return the collection that it is a version of."""
    return call.store.collections[artifact.collection]


@resolver("Artifact.artifactType")
def artifact_type(artifact: Artifact, call: Call) -> dict[str, Any]:
    """Return its type."""
    return collection_type(sequence(artifact, call), call)


@resolver("Artifact.tags")
def tags(artifact: Artifact, _: Call) -> list[dict[str, Any]]:
    """Return its tags."""
    return [{"id": gid("Tag", tag), "name": tag} for tag in artifact.tags]


@resolver("Artifact.aliases")
@resolver("ArtifactCollectionMembership.aliases")
def aliases(artifact: Artifact, call: Call) -> list[dict[str, Any]]:
    """Return its aliases."""
    within = sequence(artifact, call)
    return [
        {"id": gid("Alias", within.id, alias), "alias": alias, "artifactCollection": within}
        for alias, found in within.aliases.items()
        if found == artifact.id
    ]


@resolver("Artifact.currentManifest")
def manifest(artifact: Artifact, call: Call) -> dict[str, Any]:
    """Return where its manifest is got."""
    file = {"directUrl": call.store.url(artifact.manifest)}
    return {"id": gid("Manifest", artifact.id), "file": file}


@resolver("Artifact.fileCount")
def file_count(artifact: Artifact, _: Call) -> int:
    """Return how many files it has."""
    return len(artifact.files)


@resolver("Artifact.files")
@resolver("ArtifactCollectionMembership.files")
def files(artifact: Artifact, call: Call, names: list[str] | None = None, **paging: Any) -> Page:
    """Return its files, or those with one of *names*."""
    found = {n: key for n, key in sorted(artifact.files.items()) if n in (names or [n])}
    return page([_file(call.store, artifact, *item) for item in found.items()], **paging)


@resolver("Artifact.filesByManifestEntries")
def files_by_entries(artifact: Artifact, call: Call, **_: Any) -> Page:
    """Return all its files, whichever entries are named."""
    return files(artifact, call)


def _file(store: Store, artifact: Artifact, name: str, key: str) -> dict[str, Any]:
    found = {"id": gid("AFile", artifact.id, name), "name": name, "displayName": name}
    found |= {"url": store.url(key), "directUrl": store.url(key), "storagePath": key}
    return found | {"sizeBytes": store.blob_path(key).stat().st_size}


@resolver("Artifact.createdBy")
def created_by(artifact: Artifact, call: Call) -> Run | None:
    """Return the run that logged it first."""
    return call.store.runs.get(artifact.run or "")


@resolver("Artifact.usedBy")
def used_by(artifact: Artifact, call: Call) -> Page:
    """Return the runs that used it."""
    return page([run for run in call.store.runs.values() if artifact.id in run.used])


# --- an artifact as a member of its collection: the same record


@resolver("ArtifactCollectionMembership.id")
def membership_id(artifact: Artifact, _: Call) -> str:
    """Return the id of the membership."""
    return gid("Mem", artifact.id)


@resolver("ArtifactCollectionMembership.artifactCollection")
def membership_collection(artifact: Artifact, call: Call) -> Collection:
    """Return the collection."""
    return sequence(artifact, call)


@resolver("ArtifactCollectionMembership.artifact")
def member(artifact: Artifact, _: Call) -> Artifact:
    """Return the artifact."""
    return artifact


# --- a collection


@resolver("ArtifactSequence.project")
def collection_project(within: Collection, call: Call) -> Project | None:
    """Return its project."""
    return call.store.project(within.entity, within.project)


@resolver("ArtifactSequence.type")
@resolver("ArtifactSequence.defaultArtifactType")
def collection_type(within: Collection, _: Call) -> dict[str, Any]:
    """Return the type of its artifacts."""
    return {"id": gid("AType", within.project, within.type), "name": within.type}


@resolver("ArtifactSequence.artifacts")
def versions(
    within: Collection,
    call: Call,
    order: str | None = None,
    filters: str | None = None,
    **paging: Any,
) -> Page:
    """Return its artifacts, newest first, whatever *order* and *filters* say."""
    newest_first = [call.store.artifacts[key] for key in reversed(within.versions.values())]
    found = page(newest_first, **paging)
    for edge in found["edges"]:
        edge["version"] = f"v{edge['node'].version_index}"
    return found


@resolver("ArtifactSequence.latestArtifact")
def latest(within: Collection, call: Call) -> Artifact | None:
    """Return the artifact with the alias ``latest``."""
    return call.store.artifacts.get(within.aliases.get("latest", ""))


@resolver("ArtifactSequence.artifactMembership")
def membership(within: Collection, call: Call, alias_name: str) -> Artifact | None:
    """Return the artifact with an alias."""
    return call.store.artifact(f"{within.key}:{alias_name}")


constants(
    {
        "Artifact.digestAlgorithm": "MANIFEST_MD5",
        "Artifact.ttlDurationSeconds": -1,
        "Artifact.ttlIsInherited": True,
        "Artifact.updatedAt": None,
        "ArtifactSequence.digestAlgorithm": "MANIFEST_MD5",
        "ArtifactSequence.description": None,
        "ArtifactSequence.updatedAt": None,
        "ArtifactSequence.tags": edges([]),
    }
)
