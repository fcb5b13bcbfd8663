"""
Read and write W&B's logs, the files ``run-ID.wandb``.

The package wandb 0.31 has no reader. A log is a header, then protobuf records in LevelDB's
format: chunks in blocks of 32 KiB.
"""

import json
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import Record

BLOCK = 32768
HEADER = struct.Struct("<IHB")  # checksum, size, kind
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4
MAGIC = struct.pack("<4sHB", b":W&B", 0xBEE1, 0)


def records(data: bytes) -> Iterator[Any]:
    """Yield the records of a log up to its end, or to the point where it is truncated."""
    if not data.startswith(MAGIC):
        return
    at, parts = len(MAGIC), b""
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


def encode(entries: Iterable[Any]) -> bytes:
    """Return the content of a log with these records, numbered in their order."""
    data = bytearray(MAGIC)
    for number, entry in enumerate(entries, 1):
        entry.num = number
        _append(data, entry.SerializeToString())
    return bytes(data)


def _append(data: bytearray, record: bytes) -> None:
    kinds = (FULL, FIRST)
    while True:
        left = BLOCK - len(data) % BLOCK
        if left < HEADER.size:
            data += bytes(left)
            continue
        body, record = record[: left - HEADER.size], record[left - HEADER.size :]
        kind = kinds[bool(record)]
        data += HEADER.pack(zlib.crc32(bytes([kind]) + body), len(body), kind) + body
        if not record:
            return
        kinds = (LAST, MIDDLE)


def values(items: Any) -> dict[str, Any]:
    """Return the values of a row, or of a summary, by their name; nested ones with dots."""
    return {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}


def time_of(items: Any) -> int:
    """Return the time of a row in microseconds, which identifies it."""
    for item in items:
        if (item.key or ".".join(item.nested_key)) == "_timestamp":
            return microseconds(json.loads(item.value_json))
    return 0


def microseconds(seconds: Any) -> int:
    """Return a time that W&B gives in seconds, so that it can be compared."""
    return round(float(seconds or 0) * 1_000_000)


def find(folders: Sequence[str]) -> list[Path]:
    """Return the logs in W&B's folders *folders* and next to them, the oldest first."""
    logs = {log for name in folders for log in Path(name).parent.glob("*run-*/*.wandb")}
    # Links (latest-run) point to folders that are listed by their own name.
    real = [log for log in logs if not log.is_symlink() and not log.parent.is_symlink()]
    return sorted(real, key=lambda log: log.parent.name.removeprefix("offline-"))
