"""Projects: the way to runs and to collections of artifacts."""

from __future__ import annotations

import json
from typing import Any

from .accounts import entity
from .binding import Call, constants, resolver
from .connections import Page, page
from .filters import matches
from .records import Artifact, Collection, Project, Run, gid


@resolver("Query.project")
@resolver("Query.model")
def project(
    _: Any, call: Call, name: str | None = None, entity_name: str | None = None
) -> Project | None:
    """Return a project by its names."""
    return call.store.project(entity_name, name)


@resolver("Query.models")
def projects(
    _: Any, call: Call, entity_name: str | None = None, order: str | None = None, **paging: Any
) -> Page:
    """Return the projects of an entity, in the order in which they were made."""
    wanted = entity_name or call.store.entity
    return page([p for p in call.store.projects.values() if p.entity == wanted], **paging)


@resolver("Mutation.upsertModel")
def upsert_project(_: Any, call: Call, values: dict[str, Any]) -> dict[str, Any]:
    """Make a project that is not there."""
    made = call.store.create_project(values.get("entityName"), values["name"])
    return {"project": made, "model": made, "inserted": True}


@resolver("Project.id")
def project_id(of: Project, _: Call) -> str:
    """Return its id."""
    return gid("Project", of.number)


@resolver("Project.internalId")
def internal_id(of: Project, _: Call) -> str:
    """Return its number."""
    return str(of.number)


@resolver("Project.entityName")
def entity_name(of: Project, _: Call) -> str:
    """Return whose it is, by name."""
    return of.entity


@resolver("Project.entity")
def owner(of: Project, _: Call) -> dict[str, Any]:
    """Return whose it is."""
    return entity(of.entity)


@resolver("Project.run")
@resolver("Project.bucket")
def run(of: Project, call: Call, name: str, missing_ok: bool = False) -> Run | None:
    """Return a run by its name."""
    return call.store.run(of.entity, of.name, name)


@resolver("Project.runs")
def runs(
    of: Project, call: Call, filters: str | None = None, order: str | None = None, **paging: Any
) -> Page:
    """Return the runs that *filters* lets through; of *order*, the sign alone counts."""
    found = _filtered(of, call, filters)
    return page(found[::-1] if (order or "").startswith("-") else found, **paging)


@resolver("Project.runCount")
def run_count(of: Project, call: Call, filters: str | None = None) -> int:
    """Return how many runs *filters* lets through."""
    return len(_filtered(of, call, filters))


def _filtered(of: Project, call: Call, filters: str | None) -> list[Run]:
    wanted = (json.loads(filters) if filters else None) or {}
    own = (r for r in call.store.runs.values() if (r.entity, r.project) == (of.entity, of.name))
    return [found for found in own if matches(found, wanted)]


@resolver("Project.artifact")
def artifact(of: Project, call: Call, name: str) -> Artifact | None:
    """Return an artifact by ``name:alias``."""
    return call.store.artifact(f"{of.key}/{name}")


@resolver("Project.artifactCollectionMembership")
def membership(of: Project, call: Call, name: str) -> Artifact | None:
    """Return an artifact as a member of its collection: they are one record here."""
    return call.store.artifact(f"{of.key}/{name}")


@resolver("Project.artifactCollection")
def collection(of: Project, call: Call, name: str) -> Collection | None:
    """Return a collection by its name."""
    return call.store.collections.get(f"{of.key}/{name}")


@resolver("Project.artifactType")
def artifact_type(of: Project, _: Call, name: str) -> dict[str, Any]:
    """Return a type of artifacts: any name is one."""
    made = {"id": gid("AType", of.key, name), "name": name, "createdAt": of.created_at}
    return made | {"project": of}


@resolver("Project.artifactTypes")
def artifact_types(of: Project, call: Call, **paging: Any) -> Page:
    """Return the types of the project's artifacts."""
    own = (c for c in call.store.collections.values() if c.key.startswith(f"{of.key}/"))
    return page([artifact_type(of, call, name) for name in sorted({c.type for c in own})], **paging)


@resolver("ArtifactType.artifactCollection")
def collection_of_type(of: dict[str, Any], call: Call, name: str) -> Collection | None:
    """Return a collection by its name; its type is not compared."""
    return collection(of["project"], call, name)


constants(
    {
        "Project.isBenchmark": False,
        "Project.readOnly": False,
        "Project.description": None,
        "Project.access": "PRIVATE",
        "Project.views": None,
    }
)
