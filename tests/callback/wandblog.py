"""Read what an offline run wrote (wandb 0.31); wandb's own reader is gone from its package."""

from __future__ import annotations

import dataclasses
import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import Record

_BLOCK = 32768
_HEADER = struct.Struct("<IHB")  # checksum, size, kind
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


@dataclasses.dataclass
class LoggedArtifact:
    """An artifact as the run logged it; *files* maps names in it to paths or references."""

    name: str
    type: str
    aliases: list[str]
    metadata: dict[str, Any]
    files: dict[str, str]


@dataclasses.dataclass
class LoggedRun:
    """All that the tests ask of a run."""

    folder: Path
    config: dict[str, Any] = dataclasses.field(default_factory=dict)
    rows: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    summary: dict[str, Any] = dataclasses.field(default_factory=dict)
    artifacts: list[LoggedArtifact] = dataclasses.field(default_factory=list)
    metrics: dict[str, str] = dataclasses.field(default_factory=dict)
    complete: bool = False
    project: str = ""
    entity: str = ""

    def column(self, key: str) -> list[Any]:
        """Return the values of *key* in the rows that have it."""
        return [row[key] for row in self.rows if key in row]

    def tables(self, key: str) -> list[dict[str, Any]]:
        """Return columns and data of all tables logged as *key*: artifacts, as their images are."""
        name = f"{key}.table.json"
        files = [a.files[name] for a in self.artifacts if name in a.files]
        return [json.loads(Path(file).read_text()) for file in files]

    def table(self, key: str) -> dict[str, Any]:
        """Return columns and data of the last table logged as *key*."""
        return self.tables(key)[-1]

    def media(self, value: dict[str, Any]) -> Path:
        """Return the file of an image, a mask or a set of boxes in a table."""
        found = [a.files[value["path"]] for a in self.artifacts if value["path"] in a.files]
        return Path(found[0])


def read_run(path: str | Path) -> LoggedRun:
    """Read the ``.wandb`` file *path*."""
    run = LoggedRun(Path(path).parent)
    for record in _records(Path(path).read_bytes()):
        kind = record.WhichOneof("record_type")
        config = record.run.config if kind == "run" else record.config
        if kind == "run":
            run.project, run.entity = record.run.project, record.run.entity
        if kind in ("run", "config"):
            _update(run.config, config.update)
        elif kind == "history":
            row = {"_step": record.history.step.num}
            _update(row, record.history.item)
            run.rows.append(row)
        elif kind == "summary":
            _update(run.summary, record.summary.update)
        elif kind == "artifact":
            run.artifacts.append(_artifact(record.artifact))
        elif kind == "metric":
            run.metrics[record.metric.name] = record.metric.step_metric
        elif kind == "exit":
            run.complete = True
    return run


def _records(data: bytes) -> Iterator[Record]:
    """Yield the records of a version-0 file: LevelDB-style chunks in 32 KiB blocks."""
    assert struct.unpack("<4sHB", data[:7]) == (b":W&B", 0xBEE1, 0)
    at, parts = 7, []
    while at + _HEADER.size <= len(data):
        left = _BLOCK - at % _BLOCK
        if left < _HEADER.size:  # the rest of a block, too short for a header
            at += left
            continue
        checksum, size, kind = _HEADER.unpack(data[at : at + _HEADER.size])
        body = data[at + _HEADER.size : at + _HEADER.size + size]
        if zlib.crc32(bytes([kind]) + body) != checksum:
            return  # torn: wandb is still writing
        at += _HEADER.size + size
        parts = [body] if kind in (_FULL, _FIRST) else [*parts, body]
        if kind in (_FULL, _LAST):
            yield Record.FromString(b"".join(parts))


def _update(tree: dict[str, Any], items: Any) -> None:
    for item in items:
        *path, last = list(item.nested_key) or [item.key]
        branch = tree
        for key in path:
            branch = branch.setdefault(key, {})
        branch[last] = json.loads(item.value_json)


def _artifact(record: Any) -> LoggedArtifact:
    files = {entry.path: entry.local_path or entry.ref for entry in record.manifest.contents}
    metadata = json.loads(record.metadata or "{}")
    return LoggedArtifact(record.name, record.type, sorted(record.aliases), metadata, files)
