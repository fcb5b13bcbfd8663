"""
Read W&B's logs: ``python -m samerun.train.hooks.wandb_log FOLDER...`` prints them as JSON.

The package wandb 0.31 has no reader. A log is a header, then protobuf records in LevelDB's
format: chunks in blocks of 32 KiB.
"""

import json
import struct
import sys
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import Record

BLOCK = 32768
HEADER = struct.Struct("<IHB")  # checksum, size, kind
FULL, FIRST, LAST = 1, 2, 4
MAGIC = (b":W&B", 0xBEE1, 0)


def records(data: bytes) -> Iterator[Any]:
    """Yield the records of a log up to its end, or to the point where it is truncated."""
    if len(data) < HEADER.size or struct.unpack("<4sHB", data[:7]) != MAGIC:
        return
    at, parts = 7, b""
    while at + HEADER.size <= len(data):
        left = BLOCK - at % BLOCK
        if left < HEADER.size:  # The rest of the block is too short for a header.
            at += left
            continue
        checksum, size, kind = HEADER.unpack(data[at : at + HEADER.size])
        body = data[at + HEADER.size : at + HEADER.size + size]
        if zlib.crc32(bytes([kind]) + body) != checksum:
            return
        at += HEADER.size + size
        parts = body if kind in (FULL, FIRST) else parts + body
        if kind in (FULL, LAST):
            yield Record.FromString(parts)


def read(path: Path) -> dict[str, Any]:
    """
    Return what the server must have according to the log *path*.

    *rows* are pairs of step and time in milliseconds, which identifies a row even if the
    server renumbers steps; *artifacts* are triples of name, type and digest.
    """
    content: dict[str, Any] = {"rows": [], "artifacts": [], "complete": False}
    for entry in records(path.read_bytes()):
        kind = entry.WhichOneof("record_type")
        if kind == "run":
            content |= {"id": entry.run.run_id, "entity": entry.run.entity}
            content["project"] = entry.run.project
        elif kind == "history":
            content["rows"].append([entry.history.step.num, _milliseconds(entry.history.item)])
        elif kind == "artifact":
            artifact = entry.artifact
            content["artifacts"].append([artifact.name, artifact.type, artifact.digest])
        elif kind == "exit":
            content["complete"] = True
    return content


def _milliseconds(items: Any) -> int:
    for item in items:
        if (item.key or ".".join(item.nested_key)) == "_timestamp":
            return round(float(json.loads(item.value_json)) * 1000)
    return 0


def find(folders: Sequence[str]) -> list[Path]:
    """Return the logs in W&B's folders *folders* and next to them, the oldest first."""
    logs = {log for name in folders for log in Path(name).parent.glob("*run-*/*.wandb")}
    # Links (latest-run) point to folders that are listed by their own name.
    real = [log for log in logs if not log.is_symlink() and not log.parent.is_symlink()]
    return sorted(real, key=lambda log: log.parent.name.removeprefix("offline-"))


if __name__ == "__main__":
    print(  # noqa: T201 - the host reads it
        json.dumps([{"dir": str(log.parent), **read(log)} for log in find(sys.argv[1:])])
    )
