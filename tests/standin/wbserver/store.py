"""The stand-in's state: in memory, and on disk after each change, so that a kill loses nothing."""

from __future__ import annotations

import hashlib
import json
import threading
import time
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .records import Artifact, Collection, Project, Run

if TYPE_CHECKING:
    from .faults import Fault


class Store:
    """
    All state. Whoever changes it holds *lock*.

    Args:
        data: Folder for the state and the blobs; what is there is read.
        entity: Whose runs they are that name no entity.
        max_tag: Longest tag, in characters, as wandb itself has it.
        crash_after: Seconds without a sign of a run until it counts as crashed.
        report_line_count: Whether a run that exists is answered with its number of rows. What
            W&B does is not known: a number makes a second upload of a log append its rows
            after the old ones, null makes it rewrite them in place.
    """

    def __init__(
        self,
        data: str | Path,
        entity: str = "standin",
        *,
        max_tag: int = 64,
        crash_after: float = 300.0,
        report_line_count: bool = False,
    ) -> None:
        self.entity, self.max_tag = entity, max_tag
        self.crash_after, self.report_line_count = crash_after, report_line_count
        self.lock = threading.RLock()
        self.base = ""  # The server's address, once its port is known.
        self.data = Path(data)
        (self.data / "blobs").mkdir(parents=True, exist_ok=True)
        self.reset()
        self._load()

    def reset(self) -> None:
        """Forget everything but the blobs."""
        self.projects: dict[str, Project] = {}
        self.runs: dict[str, Run] = {}
        self.collections: dict[str, Collection] = {}
        self.artifacts: dict[str, Artifact] = {}
        self.charts: list[dict[str, Any]] = []
        # Of this process only: requests seen, GraphQL that is not known, what is to go wrong.
        self.log: list[dict[str, Any]] = []
        self.unknown: dict[str, str] = {}
        self.faults: list[Fault] = []

    def state(self) -> dict[str, Any]:
        """Return what is saved."""
        kept = ("projects", "runs", "collections", "artifacts", "charts")
        return {name: getattr(self, name) for name in kept}

    def save(self) -> None:
        """Write the state, atomically."""
        text = json.dumps(self.state(), default=vars)
        self._path.with_suffix(".tmp").write_text(text, encoding="utf-8")
        self._path.with_suffix(".tmp").replace(self._path)

    def _load(self) -> None:
        if not self._path.exists():
            return
        raw = json.loads(self._path.read_text(encoding="utf-8"))
        self.projects = {key: Project(**entry) for key, entry in raw["projects"].items()}
        self.runs = {key: Run.from_json(entry) for key, entry in raw["runs"].items()}
        self.collections = {k: Collection(**entry) for k, entry in raw["collections"].items()}
        self.artifacts = {key: Artifact(**entry) for key, entry in raw["artifacts"].items()}
        self.charts = raw["charts"]

    @property
    def _path(self) -> Path:
        return self.data / "state.json"

    def mark_crashed(self) -> None:
        """Note which runs have not been heard of for too long."""
        for run in self.runs.values():
            if run.state == "running" and time.time() - run.beat > self.crash_after:
                run.state = "crashed"

    def blob_path(self, key: str) -> Path:
        """Return where the blob *key* lies."""
        return self.data / "blobs" / hashlib.sha256(key.encode()).hexdigest()

    def url(self, key: str) -> str:
        """Return the address at which the blob *key* is put and got."""
        return f"{self.base}/storage/{urllib.parse.quote(key)}"

    def project(self, entity: str | None, name: str | None) -> Project | None:
        """Return a project, named as clients do: the parts may be missing."""
        return self.projects.get(f"{entity or self.entity}/{name or 'uncategorized'}")

    def create_project(self, entity: str | None, name: str | None) -> Project:
        """Return a project, made if it is not there."""
        number, entity = len(self.projects) + 1, entity or self.entity
        made = Project(number=number, entity=entity, name=name or "uncategorized")
        return self.projects.setdefault(made.key, made)

    def run(self, entity: str | None, project: str | None, name: str) -> Run | None:
        """Return a run, named as clients do."""
        return self.runs.get(f"{entity or self.entity}/{project or 'uncategorized'}/{name}")

    def run_by_id(self, storage_id: str) -> Run | None:
        """Return the run with this id of GraphQL."""
        return next((run for run in self.runs.values() if run.id == storage_id), None)

    def artifact(self, path: str) -> Artifact | None:
        """Return the artifact ``entity/project/name:alias``; without an alias, the latest."""
        name, _, alias = path.partition(":")
        collection = self.collections.get(name)
        found = collection and collection.find(alias or "latest")
        return self.artifacts[found] if found else None

    def put_artifact(self, path: str, kind: str, files: Mapping[str, str]) -> Artifact:
        """Keep a committed artifact ``entity/project/name`` that no client sent."""
        entity, project, name = path.split("/")
        made = Collection(entity=entity, project=project, name=name, type=kind)
        within = self.collections.setdefault(path, made)
        blobs = {name: f"artifact/{path}/{name}" for name in files}
        for file, key in blobs.items():
            self.blob_path(key).write_text(files[file], encoding="utf-8")
        key = f"put-{len(self.artifacts) + 1}"
        artifact = Artifact(id=key, collection=path, files=blobs)
        self.artifacts[key] = artifact
        within.add(artifact)
        return artifact

    def logged(self, run: Run) -> dict[str, Artifact]:
        """Return the committed artifacts that *run* logged, as ``name:v0``."""
        found = (self.artifacts[key] for key in run.logged)
        return {self.name_of(a): a for a in found if a.state == "COMMITTED"}

    def name_of(self, artifact: Artifact) -> str:
        """Return the name of *artifact* with its version."""
        return f"{self.collections[artifact.collection].name}:v{artifact.version_index}"

    def manifest(self, artifact: Artifact) -> dict[str, Any] | None:
        """Return the manifest as it was uploaded, or None before that."""
        path = self.blob_path(artifact.manifest)
        return json.loads(path.read_bytes()) if path.exists() else None

    def read(self, artifact: Artifact, name: str) -> bytes:
        """Return a file of *artifact*."""
        return self.blob_path(artifact.files[name]).read_bytes()
