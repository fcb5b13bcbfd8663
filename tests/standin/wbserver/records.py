"""What the stand-in keeps: projects, runs, collections of artifacts, artifacts."""

from __future__ import annotations

import base64
import datetime as dt
import json
import time
from dataclasses import dataclass, field
from typing import Any

HISTORY, EVENTS, OUTPUT = "wandb-history.jsonl", "wandb-events.jsonl", "output.log"


def now() -> str:
    """Return the time as W&B writes it."""
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def gid(kind: str, *parts: object) -> str:
    """Return an id as W&B makes them: what it names, opaque to clients."""
    return base64.b64encode(":".join([kind, *map(str, parts)]).encode()).decode()


@dataclass(kw_only=True)
class Project:
    """A project of an entity."""

    number: int
    entity: str
    name: str
    created_at: str = field(default_factory=now)

    @property
    def key(self) -> str:
        """Its place in the store."""
        return f"{self.entity}/{self.name}"


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line of a run's history as a client sent it, in one of its requests."""

    offset: int
    text: str
    client: str | None = None


@dataclass(kw_only=True)
class Run:
    """A run: what its client told, and what it streamed."""

    entity: str
    project: str
    name: str
    display_name: str
    description: str | None = None
    notes: str | None = None
    tags: list[str] = field(default_factory=list)
    group: str | None = None
    job_type: str | None = None
    host: str | None = None
    program: str | None = None
    repo: str | None = None
    commit: str | None = None
    sweep_name: str | None = None
    debug: bool | None = None
    state: str = "running"
    exitcode: int | None = None
    stopped: bool = False
    created_at: str = field(default_factory=now)
    heartbeat_at: str = field(default_factory=now)
    beat: float = field(default_factory=time.time)
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    # Streamed files: name -> offset -> line. A line sent again to its offset replaces the first.
    stream: dict[str, dict[int, str]] = field(default_factory=dict)
    # Every line of history that came, also those sent twice.
    received: list[Line] = field(default_factory=list)
    # Where lines of shared mode went: "client:file:offset" -> offset in the file.
    clients: dict[str, int] = field(default_factory=dict)
    # Uploaded files: name -> size, md5 and so on.
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    # Artifacts logged and used, by id.
    logged: list[str] = field(default_factory=list)
    used: list[str] = field(default_factory=list)
    alerts: list[dict[str, Any]] = field(default_factory=list)
    requests: int = 0

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> Run:
        """Read a run back from the saved state."""
        stream = {name: {int(k): v for k, v in f.items()} for name, f in raw["stream"].items()}
        received = [Line(**line) for line in raw["received"]]
        return cls(**raw | {"stream": stream, "received": received})

    @property
    def key(self) -> str:
        """Its place in the store."""
        return f"{self.entity}/{self.project}/{self.name}"

    @property
    def id(self) -> str:
        """Its id in GraphQL."""
        return gid("Run", "v1", self.name, self.project, self.entity)

    def touch(self) -> None:
        """Note that its client lives."""
        self.beat, self.heartbeat_at = time.time(), now()

    def lines(self, name: str) -> list[str]:
        """Return a streamed file by its lines."""
        found = self.stream.get(name, {})
        return [found[offset] for offset in sorted(found)]

    def history(self) -> list[dict[str, Any]]:
        """Return the rows that the server shows, in order; steps of two offsets stand twice."""
        rows = [json.loads(line) for line in self.lines(HISTORY)]
        # In shared mode each client counts from 0, and the server assigns the step.
        return [row | {"_step": i} for i, row in enumerate(rows)] if self.clients else rows

    def history_by_step(self) -> dict[int, list[dict[str, Any]]]:
        """Return the rows that the server shows under their steps: one each, or it has doubles."""
        return by_step(self.history())

    def received_by_step(self) -> dict[int, list[dict[str, Any]]]:
        """Return every row as it was received, under its step: also rows sent again in place."""
        return by_step([json.loads(line.text) for line in self.received])


def by_step(rows: list[dict[str, Any]]) -> dict[int, list[dict[str, Any]]]:
    """Return *rows* under their steps."""
    found: dict[int, list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(row["_step"], []).append(row)
    return found


@dataclass(kw_only=True)
class Collection:
    """The versions of an artifact, and their aliases: both name -> id of an artifact."""

    entity: str
    project: str
    name: str
    type: str
    created_at: str = field(default_factory=now)
    aliases: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    next_version: int = 0

    @property
    def key(self) -> str:
        """Its place in the store."""
        return f"{self.entity}/{self.project}/{self.name}"

    @property
    def id(self) -> str:
        """Its id in GraphQL."""
        return gid("Seq", self.key)

    def find(self, version: str) -> str | None:
        """Return the id of the artifact with an alias, or with a version such as ``v0``."""
        return self.aliases.get(version) or self.versions.get(version)

    def add(self, artifact: Artifact) -> None:
        """Make *artifact* the latest version."""
        artifact.state, artifact.version_index = "COMMITTED", self.next_version
        self.next_version += 1
        self.versions[f"v{artifact.version_index}"] = artifact.id
        self.aliases |= dict.fromkeys({*artifact.wanted, "latest"}, artifact.id)


@dataclass(kw_only=True)
class Artifact:
    """A version of an artifact."""

    id: str
    collection: str
    digest: str = ""
    state: str = "PENDING"
    version_index: int | None = None
    description: str | None = None
    metadata: str | None = None
    size: int = 0
    tags: list[str] = field(default_factory=list)
    history_step: int | None = None
    commit_hash: str = ""
    created_at: str = field(default_factory=now)
    # Name -> key of the blob.
    files: dict[str, str] = field(default_factory=dict)
    client_id: str | None = None
    run: str | None = None
    # Aliases that it gets once it is committed.
    wanted: list[str] = field(default_factory=list)

    @property
    def manifest(self) -> str:
        """The key of the manifest's blob."""
        return f"manifest/{self.id}"
