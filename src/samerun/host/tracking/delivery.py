"""What a run logged, against what W&B's server has of it: rows and artifacts, counted."""

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
    """One W&B run as its logs on disk have it: one log for every start."""

    id: str
    entity: str | None
    project: str
    dirs: tuple[str, ...]
    # Pairs of step and time in milliseconds, a tuple per log.
    logs: tuple[tuple[tuple[int, int], ...], ...]
    artifacts: frozenset[tuple[str, str]]

    @property
    def rows(self) -> int:
        """Rows in all logs."""
        return sum(map(len, self.logs))


@dataclass(frozen=True, kw_only=True)
class Delivered:
    """What the server has of a run."""

    rows: tuple[tuple[int, int], ...] = ()
    artifacts: tuple[tuple[str, str], ...] = ()
    state: str = "absent"


@dataclass(frozen=True, kw_only=True)
class Difference:
    """What is missing on the server, and what it has twice."""

    id: str
    rows: int
    missing_rows: int
    doubled_rows: int
    artifacts: int
    missing_artifacts: tuple[str, ...]

    @property
    def is_complete(self) -> bool:
        """Whether the server lacks nothing."""
        return not self.missing_rows and not self.missing_artifacts

    def line(self) -> str:
        """Return it for a reader."""
        text = f"{self.id}: {self.rows - self.missing_rows} of {self.rows} rows, "
        there = self.artifacts - len(self.missing_artifacts)
        text += f"{there} of {self.artifacts} artifacts"
        if self.missing_artifacts:
            text += f" (missing: {', '.join(self.missing_artifacts)})"
        return text + (f", {self.doubled_rows} rows twice" if self.doubled_rows else "")


def group(found: Sequence[dict[str, Any]]) -> list[Logged]:
    """Put the logs of one W&B run together, in the order in which they were written."""
    ids = list(dict.fromkeys(entry["id"] for entry in found if entry.get("id")))
    return [_grouped([entry for entry in found if entry.get("id") == key]) for key in ids]


def _grouped(entries: list[dict[str, Any]]) -> Logged:
    return Logged(
        id=entries[0]["id"],
        entity=entries[-1].get("entity") or None,
        project=entries[-1].get("project") or "uncategorized",
        dirs=tuple(entry["dir"] for entry in entries),
        logs=tuple(tuple((int(s), int(t)) for s, t in entry["rows"]) for entry in entries),
        artifacts=frozenset((n, digest) for e in entries for n, _, digest in e["artifacts"]),
    )


def entity_of(api: Api, logged: Logged) -> str:
    """Return whose run it is: as logged, else as set, else the key's own."""
    named = logged.entity or os.environ.get("WANDB_ENTITY")
    return named or str((api.query(VIEWER, {}).get("viewer") or {}).get("entity"))


def ask(api: Api, entity: str, logged: Logged) -> Delivered:
    """Return what the server has of *logged*."""
    place = {"entity": entity, "project": logged.project, "run": logged.id}
    run = _run(api.query(RUN, place))
    if run is None:
        return Delivered()
    return Delivered(
        rows=tuple(_rows(api, place, _last_step(run))),
        artifacts=tuple(_artifacts(api, place)),
        state=str(run.get("state")),
    )


def _run(data: dict[str, Any]) -> dict[str, Any] | None:
    return (data.get("project") or {}).get("run")


def _last_step(run: dict[str, Any]) -> int:
    keys = run.get("historyKeys") or {}
    keys = json.loads(keys) if isinstance(keys, str) else keys
    return int(keys.get("lastStep", -1))


def _rows(api: Api, place: dict[str, str], last: int) -> list[tuple[int, int]]:
    found = []
    for step in range(0, last + 1, PAGE):
        page = {"minStep": step, "maxStep": step + PAGE, "samples": PAGE}
        run = _run(api.query(ROWS, place | page)) or {}
        rows = [json.loads(row) if isinstance(row, str) else row for row in run["history"]]
        found += [(int(r["_step"]), round(float(r.get("_timestamp", 0)) * 1000)) for r in rows]
    return found


def _artifacts(api: Api, place: dict[str, str]) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    after = None
    while True:
        run = _run(api.query(ARTIFACTS, {**place, "after": after})) or {}
        page = run["outputArtifacts"]
        nodes = [edge["node"] for edge in page["edges"]]
        found += [(n["artifactSequence"]["name"], str(n["digest"])) for n in nodes]
        if not page["pageInfo"]["hasNextPage"]:
            return found
        after = page["pageInfo"]["endCursor"]


def compare(logged: Logged, delivered: Delivered) -> Difference:
    """
    Return what the server lacks.

    A row is known by its time. One that a later start logged anew under its step is not
    missed. Of an artifact the versions are counted: a digest changes on the server where
    an artifact names another one.
    """
    there = Counter(time for _, time in delivered.rows)
    names = Counter(name for name, _ in set(delivered.artifacts))
    wanted = Counter(name for name, _ in logged.artifacts)
    lacking = wanted - names
    return Difference(
        id=logged.id,
        rows=logged.rows,
        missing_rows=_missing(logged, delivered, there),
        doubled_rows=_doubled(logged, there),
        artifacts=wanted.total(),
        missing_artifacts=tuple(lacking.elements()),
    )


def _missing(logged: Logged, delivered: Delivered, there: Counter[int]) -> int:
    at_step = dict(delivered.rows)
    later: set[int] = set()
    missing = 0
    for log in reversed(logged.logs):
        missing += sum(not there[time] and at_step.get(step) not in later for step, time in log)
        later |= {time for _, time in log}
    return missing


def _doubled(logged: Logged, there: Counter[int]) -> int:
    here = Counter(time for log in logged.logs for _, time in log)
    return sum(max(0, there[time] - count) for time, count in here.items())
