"""Compare the rows and artifacts that a run logged with those on W&B's server."""

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from samerun.host.tracking.graphql import Api

PAGE = 1000

RUN = """
query SamerunDelivered($entity: String!, $project: String!, $run: String!) {
  project(name: $project, entityName: $entity) {
    run(name: $run) { id state historyKeys }
  }
}
"""
ROWS = """
query SamerunRows($entity: String!, $project: String!, $run: String!,
    $minStep: Int64!, $maxStep: Int64!, $samples: Int!) {
  project(name: $project, entityName: $entity) {
    run(name: $run) { history(minStep: $minStep, maxStep: $maxStep, samples: $samples) }
  }
}
"""
ARTIFACTS = """
query SamerunArtifacts($entity: String!, $project: String!, $run: String!, $after: String) {
  project(name: $project, entityName: $entity) {
    run(name: $run) {
      outputArtifacts(first: 100, after: $after) {
        edges { node { digest state artifactSequence { name } } }
        pageInfo { hasNextPage endCursor }
      }
    }
  }
}
"""
VIEWER = "query SamerunViewer { viewer { entity } }"


@dataclass(frozen=True, kw_only=True)
class Logged:
    """One W&B run according to its logs and its journal on disk."""

    id: str
    entity: str | None
    project: str
    dirs: tuple[str, ...]
    # Each row by the times, in microseconds, at which it was logged, and how many have these.
    rows: tuple[tuple[frozenset[int], int], ...]
    artifacts: frozenset[tuple[str, str]]

    @property
    def count(self) -> int:
        """Number of rows."""
        return sum(count for _, count in self.rows)


@dataclass(frozen=True, kw_only=True)
class Delivered:
    """The part of a run that is on the server."""

    # The time of each row, in microseconds.
    times: Counter[int] = field(default_factory=Counter)
    artifacts: tuple[tuple[str, str], ...] = ()
    state: str = "absent"


@dataclass(frozen=True, kw_only=True)
class Difference:
    """What is missing on the server, and what is there twice."""

    id: str
    rows: int
    missing_rows: int
    doubled_rows: int
    artifacts: int
    missing_artifacts: tuple[str, ...]
    # Missing artifacts that can't be sent: their files were deleted.
    gone: tuple[str, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether nothing is missing on the server."""
        return not self.missing_rows and not self.missing_artifacts

    def line(self) -> str:
        """Return the line to print."""
        text = f"{self.id}: {self.rows - self.missing_rows} of {self.rows} rows, "
        arrived = self.artifacts - len(self.missing_artifacts)
        text += f"{arrived} of {self.artifacts} artifacts"
        if self.missing_artifacts:
            text += f" (missing: {', '.join(self.missing_artifacts)}"
            text += f"; deleted files of: {', '.join(self.gone)})" if self.gone else ")"
        return text + (f", {self.doubled_rows} rows twice" if self.doubled_rows else "")


def read(entries: Sequence[dict[str, Any]]) -> list[Logged]:
    """Return the W&B runs that ``samerun.train.hooks.wandb_content`` printed."""
    return [
        Logged(
            id=str(entry["id"]),
            entity=entry.get("entity") or None,
            project=entry.get("project") or "uncategorized",
            dirs=tuple(map(str, entry["dirs"])),
            rows=tuple((frozenset(map(int, times)), int(n)) for times, n in entry["rows"]),
            artifacts=frozenset((str(n), str(digest)) for n, _, digest in entry["artifacts"]),
        )
        for entry in entries
    ]


def request(difference: Difference, delivered: Delivered, exit_code: int) -> dict[str, Any]:
    """Return what ``samerun.train.hooks.wandb_outbox`` needs to know of the server."""
    return {
        "id": difference.id,
        "known": delivered.state != "absent",
        "times": sorted(delivered.times),
        "artifacts": [list(pair) for pair in delivered.artifacts],
        "missing": sorted(set(difference.missing_artifacts)),
        "exit_code": exit_code,
    }


def entity_of(api: Api, logged: Logged) -> str:
    """Return the run's entity: from the log, else WANDB_ENTITY, else the key's default."""
    entity = logged.entity or os.environ.get("WANDB_ENTITY")
    return entity or str((api.query(VIEWER, {}).get("viewer") or {}).get("entity"))


def ask(api: Api, entity: str, logged: Logged) -> Delivered:
    """Query the server for its part of the run *logged*."""
    path = {"entity": entity, "project": logged.project, "run": logged.id}
    run = _run(api.query(RUN, path))
    if run is None:
        return Delivered()
    return Delivered(
        times=Counter(_times(api, path, _last_step(run))),
        artifacts=tuple(_artifacts(api, path)),
        state=str(run.get("state")),
    )


def _run(data: dict[str, Any]) -> dict[str, Any] | None:
    return (data.get("project") or {}).get("run")


def _last_step(run: dict[str, Any]) -> int:
    keys = run.get("historyKeys") or {}
    keys = json.loads(keys) if isinstance(keys, str) else keys
    return int(keys.get("lastStep", -1))


def _times(api: Api, path: dict[str, str], last: int) -> list[int]:
    times: list[int] = []
    for step in range(0, last + 1, PAGE):
        page = {"minStep": step, "maxStep": step + PAGE, "samples": PAGE}
        run = _run(api.query(ROWS, path | page)) or {}
        parsed = [json.loads(row) if isinstance(row, str) else row for row in run["history"]]
        times += [round(float(row.get("_timestamp", 0)) * 1_000_000) for row in parsed]
    return times


def _artifacts(api: Api, path: dict[str, str]) -> list[tuple[str, str]]:
    artifacts: list[tuple[str, str]] = []
    after = None
    while True:
        run = _run(api.query(ARTIFACTS, {**path, "after": after})) or {}
        page = run["outputArtifacts"]
        nodes = [edge["node"] for edge in page["edges"]]
        nodes = [node for node in nodes if node["state"] == "COMMITTED"]  # else it is no upload
        artifacts += [(n["artifactSequence"]["name"], str(n["digest"])) for n in nodes]
        if not page["pageInfo"]["hasNextPage"]:
            return artifacts
        after = page["pageInfo"]["endCursor"]


def compare(logged: Logged, delivered: Delivered) -> Difference:
    """
    Return what is missing on the server.

    Rows are identified by their time; of a row that a later start logged again, one has to be
    there. Artifacts are compared by name and number of versions, because the server changes
    the digest of an artifact that references another one.
    """
    names = Counter(name for name, _ in set(delivered.artifacts))
    expected = Counter(name for name, _ in logged.artifacts)
    arrived = [(sum(delivered.times[t] for t in times), count) for times, count in logged.rows]
    return Difference(
        id=logged.id,
        rows=logged.count,
        missing_rows=sum(max(0, count - there) for there, count in arrived),
        doubled_rows=sum(max(0, there - count) for there, count in arrived),
        artifacts=expected.total(),
        missing_artifacts=tuple((expected - names).elements()),
    )
