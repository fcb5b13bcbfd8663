"""Compare the rows and artifacts that a run logged with those on W&B's server."""

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
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
    """One W&B run according to its logs on disk; there is one log per start."""

    id: str
    entity: str | None
    project: str
    dirs: tuple[str, ...]
    # One tuple per log, of pairs of step and time in milliseconds.
    logs: tuple[tuple[tuple[int, int], ...], ...]
    artifacts: frozenset[tuple[str, str]]

    @property
    def rows(self) -> int:
        """Number of rows in all logs."""
        return sum(map(len, self.logs))


@dataclass(frozen=True, kw_only=True)
class Delivered:
    """The part of a run that is on the server."""

    rows: tuple[tuple[int, int], ...] = ()
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
            text += f" (missing: {', '.join(self.missing_artifacts)})"
        return text + (f", {self.doubled_rows} rows twice" if self.doubled_rows else "")


def group(logs: Sequence[dict[str, Any]]) -> list[Logged]:
    """Group the logs by W&B run, in the order in which they were written."""
    ids = list(dict.fromkeys(log["id"] for log in logs if log.get("id")))
    return [_merge([log for log in logs if log.get("id") == key]) for key in ids]


def _merge(entries: list[dict[str, Any]]) -> Logged:
    return Logged(
        id=entries[0]["id"],
        entity=entries[-1].get("entity") or None,
        project=entries[-1].get("project") or "uncategorized",
        dirs=tuple(entry["dir"] for entry in entries),
        logs=tuple(tuple((int(s), int(t)) for s, t in entry["rows"]) for entry in entries),
        artifacts=frozenset((n, digest) for e in entries for n, _, digest in e["artifacts"]),
    )


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
        rows=tuple(_rows(api, path, _last_step(run))),
        artifacts=tuple(_artifacts(api, path)),
        state=str(run.get("state")),
    )


def _run(data: dict[str, Any]) -> dict[str, Any] | None:
    return (data.get("project") or {}).get("run")


def _last_step(run: dict[str, Any]) -> int:
    keys = run.get("historyKeys") or {}
    keys = json.loads(keys) if isinstance(keys, str) else keys
    return int(keys.get("lastStep", -1))


def _rows(api: Api, path: dict[str, str], last: int) -> list[tuple[int, int]]:
    rows: list[tuple[int, int]] = []
    for step in range(0, last + 1, PAGE):
        page = {"minStep": step, "maxStep": step + PAGE, "samples": PAGE}
        run = _run(api.query(ROWS, path | page)) or {}
        parsed = [json.loads(row) if isinstance(row, str) else row for row in run["history"]]
        rows += [(int(r["_step"]), round(float(r.get("_timestamp", 0)) * 1000)) for r in parsed]
    return rows


def _artifacts(api: Api, path: dict[str, str]) -> list[tuple[str, str]]:
    artifacts: list[tuple[str, str]] = []
    after = None
    while True:
        run = _run(api.query(ARTIFACTS, {**path, "after": after})) or {}
        page = run["outputArtifacts"]
        nodes = [edge["node"] for edge in page["edges"]]
        artifacts += [(n["artifactSequence"]["name"], str(n["digest"])) for n in nodes]
        if not page["pageInfo"]["hasNextPage"]:
            return artifacts
        after = page["pageInfo"]["endCursor"]


def compare(logged: Logged, delivered: Delivered) -> Difference:
    """
    Return what is missing on the server.

    Rows are identified by their time. A row is not missing if a later start logged its step
    again. Artifacts are compared by name and number of versions, because the server changes
    the digest of an artifact that references another one.
    """
    times = Counter(time for _, time in delivered.rows)
    names = Counter(name for name, _ in set(delivered.artifacts))
    expected = Counter(name for name, _ in logged.artifacts)
    missing = expected - names
    return Difference(
        id=logged.id,
        rows=logged.rows,
        missing_rows=_count_missing(logged, delivered, times),
        doubled_rows=_count_doubled(logged, times),
        artifacts=expected.total(),
        missing_artifacts=tuple(missing.elements()),
    )


def _count_missing(logged: Logged, delivered: Delivered, times: Counter[int]) -> int:
    at_step = dict(delivered.rows)
    later: set[int] = set()
    missing = 0
    for log in reversed(logged.logs):
        missing += sum(not times[time] and at_step.get(step) not in later for step, time in log)
        later |= {time for _, time in log}
    return missing


def _count_doubled(logged: Logged, times: Counter[int]) -> int:
    local = Counter(time for log in logged.logs for _, time in log)
    return sum(max(0, times[time] - count) for time, count in local.items())
