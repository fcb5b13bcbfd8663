"""
What W&B must have of a run: ``python -m samerun.train.hooks.wandb_content FOLDER W&B_FOLDER...``.

It prints a JSON object for each W&B run of the samerun run in FOLDER. A kill may have taken rows
from W&B's logs, and of an online run they have no artifacts; the journal has both. See
``wandb_journal``.
"""

import base64
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import ArtifactRecord, Record, RunRecord

from samerun.core import contract
from samerun.train.hooks import wandb_lines, wandb_log

RECORD_TYPE = "run-record"
# The times, in microseconds, at which a row was logged: several if it was logged again.
Times = frozenset[int]


@dataclass(kw_only=True)
class Content:
    """One W&B run according to its logs and its journal."""

    id: str
    folder: Path
    logs: list[Path] = field(default_factory=list)

    def read(self) -> "Content":
        """Read the files."""
        self.segments = [list(wandb_log.records(log.read_bytes())) for log in self.logs]
        self.journal = wandb_lines.read(wandb_lines.path(self.folder, self.id))
        return self

    def of_kind(self, kind: str) -> Iterator[Any]:
        """Yield the records of one kind in all logs."""
        every = (entry for segment in self.segments for entry in segment)
        return (entry for entry in every if entry.WhichOneof("record_type") == kind)

    def start(self) -> Any:
        """Return the description of the run: of a log, or of the journal if no log has one."""
        for entry in self.of_kind("run"):
            return entry.run
        for line in self.journal:
            if "run" in line:
                return RunRecord.FromString(base64.b64decode(line["run"]))
        return None

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The rows of the journal."""
        return [line for line in self.journal if "parts" in line]

    def parts(self) -> dict[str, set[int]]:
        """Return the times at which each part of a row was logged, of those in the journal."""
        parts: dict[str, set[int]] = {}
        for line in self.lines:
            for name, _ in line["parts"]:
                parts.setdefault(name, set()).add(wandb_log.microseconds(line["time"]))
        return parts

    def rows(self) -> Counter[Times]:
        """Return all rows, each by its times, and how many there are with these times."""
        parts = self.parts()
        known = {time for times in parts.values() for time in times}
        logged = (wandb_log.time_of(entry.history.item) for entry in self.of_kind("history"))
        others = Counter(frozenset([time]) for time in logged if time not in known)
        return Counter({frozenset(times): 1 for times in parts.values()}) + others

    def artifacts(self) -> list[Any]:
        """Return each artifact once, except the run's record."""
        found = [entry.artifact for entry in self.of_kind("artifact")]
        texts = (line["artifact"] for line in self.journal if "artifact" in line)
        found += [ArtifactRecord.FromString(base64.b64decode(text)) for text in texts]
        once = {(a.name, a.digest): a for a in reversed(found) if a.type != RECORD_TYPE}
        return list(reversed(once.values()))

    def summary(self) -> dict[str, Any]:
        """Return what the host needs to know."""
        start = self.start()
        artifacts = [[a.name, a.type, a.digest] for a in self.artifacts()]
        if (self.folder / contract.RECORD).is_file():
            artifacts.append([f"run-record-{self.id}", RECORD_TYPE, ""])
        return {
            "id": self.id,
            "entity": start.entity,
            "project": start.project,
            "dirs": [str(log.parent) for log in self.logs],
            "rows": sorted([sorted(times), count] for times, count in self.rows().items()),
            "artifacts": artifacts,
        }


def contents(folder: Path, names: Sequence[str]) -> list[Content]:
    """Return the W&B runs that have a log in or next to the folders *names*, or a journal."""
    found: dict[str, Content] = {}
    for log in wandb_log.find(names):
        run_id = _id(log)
        found.setdefault(run_id, Content(id=run_id, folder=folder)).logs.append(log)
    for file in sorted((folder / contract.PARTS).glob("rows-*.jsonl")):
        run_id = file.stem.removeprefix("rows-")
        found.setdefault(run_id, Content(id=run_id, folder=folder))
    every = [content.read() for content in found.values()]
    return [content for content in every if content.start() is not None]


def _id(log: Path) -> str:
    """Return the run's id; a kill may have left its log empty."""
    entries = wandb_log.records(log.read_bytes())
    first: Record | None = next((e for e in entries if e.WhichOneof("record_type") == "run"), None)
    return first.run.run_id if first else log.stem.removeprefix("run-")


if __name__ == "__main__":
    print(  # noqa: T201 - the host reads it
        json.dumps([c.summary() for c in contents(Path(sys.argv[1]), sys.argv[2:])])
    )
