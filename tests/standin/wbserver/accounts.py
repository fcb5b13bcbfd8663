"""Whose runs they are, and what the server says of itself."""

from __future__ import annotations

from typing import Any

from .binding import Call, constants, resolver
from .connections import edges
from .records import gid

FEATURES = (
    "ARTIFACT_TAGS",
    "CLIENT_IDS",
    "USE_ARTIFACT_WITH_ENTITY_AND_PROJECT_INFORMATION",
    "PROJECT_ARTIFACT_COLLECTION_MEMBERSHIP",
    "ARTIFACT_COLLECTION_MEMBERSHIP_FILES",
    "TOTAL_COUNT_IN_FILE_CONNECTION",
    "LARGE_FILENAMES",
    "MARK_RUN_FILES_UPLOADED",
    "FILESTREAM_GZIP",
)


@resolver("Query.viewer")
@resolver("Project.user")
@resolver("Run.user")
def viewer(_: Any, call: Call) -> dict[str, Any]:
    """Return the one user that there is."""
    name = call.store.entity
    names = dict.fromkeys(("entity", "username", "name"), name)
    return names | {
        "id": gid("User", 1),
        "email": f"{name}@example.invalid",
        "flags": "{}",
        "admin": False,
        "teams": edges([entity(name)]),
        "apiKeys": edges([]),
    }


@resolver("Query.entity")
def named_entity(_: Any, call: Call, name: str | None = None) -> dict[str, Any]:
    """Return an entity: any name is one."""
    return entity(name or call.store.entity)


def entity(name: str) -> dict[str, Any]:
    """Return the entity *name*."""
    return {"id": gid("Entity", name), "name": name}


@resolver("Query.serverInfo")
def server_info(*_: Any) -> dict[str, Any]:
    """Return what the server can do."""
    return {
        "features": [{"name": name, "isEnabled": True} for name in FEATURES],
        "cliVersionInfo": {"max_cli_version": "99.0.0"},
    }


constants(
    {
        "Query.organization": None,
        "Entity.xxhashDigestsEnabled": False,
        "Entity.isTeam": False,
        "Entity.available": False,
        "Entity.readOnly": False,
    }
)
