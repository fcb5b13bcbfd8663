"""
Write a log with what W&B's server lacks of a run, for ``wandb sync``.

``python -m samerun.train.hooks.wandb_outbox FOLDER OUTBOX W&B_FOLDER...``: OUTBOX is a folder
with the file `REQUEST`, which says what the server has, and `wandb_files`, into which the host
linked all files of the W&B run. It prints, as JSON, the names of artifacts whose files are gone.

wandb itself sends a log from its beginning, again and again; stops at a record that a kill has
torn, and leaves out all later logs; and reads nothing after the record of a run's end. So it
gets one log with whole records, each row and artifact that is missing, and the end last.
"""

import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import ArtifactRecord, Record, RunRecord

from samerun.core import contract
from samerun.train.hooks import wandb_log
from samerun.train.hooks.wandb_content import RECORD_TYPE, Content, contents

REQUEST = "request.json"
# wandb takes the run's id from the log, and not from these names.
DIRECTORY, LOG, FILES = "offline-run-20000101_000000-outbox", "run-outbox.wandb", "files"
# Sent only to a server that does not know the run, because nobody counts them.
_UNCOUNTED = ("output", "output_raw", "stats")
# Written anew, or meaningless in a copy.
_OWN = ("header", "run", "history", "artifact", "summary", "exit", "final", "footer")


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the server has of the W&B run *id*."""

    id: str
    known: bool
    times: frozenset[int]
    artifacts: frozenset[tuple[str, str]]
    # Names of artifacts of which the server has too few.
    missing: frozenset[str]
    exit_code: int


def read_request(outbox: Path) -> Request:
    """Read what the host asks for."""
    value = json.loads((outbox / REQUEST).read_text(encoding="utf-8"))
    return Request(
        id=value["id"],
        known=value["known"],
        times=frozenset(value["times"]),
        artifacts=frozenset((name, digest) for name, digest in value["artifacts"]),
        missing=frozenset(value["missing"]),
        exit_code=value["exit_code"],
    )


def write(content: Content, outbox: Path, request: Request) -> list[str]:
    """Write the log; return the names of missing artifacts whose files are gone."""
    place = outbox / DIRECTORY
    artifacts = [_record(artifact=a) for a in _artifacts(content, outbox, request)]
    entries = [
        *_beginning(content, request),
        *_media(place / FILES),
        *artifacts,
        *_rows(content, request),
        *_summaries(content),
        _end(content, request),
    ]
    (place / LOG).write_bytes(wandb_log.encode(entries))
    return sorted({a.artifact.name for a in artifacts if not _has_files(a.artifact)})


def _record(**parts: Any) -> Any:
    return Record(**parts)


def _beginning(content: Content, request: Request) -> Iterator[Any]:
    """Yield the header and all that describes the run."""
    header = next(content.of_kind("header"), None) or Record()
    header.header.version_info.min_consumer = header.header.version_info.min_consumer or "0.40.0"
    yield header
    runs = [entry.run for entry in content.of_kind("run")] or [content.start()]
    for run in runs:
        # The server's own numbers are asked for again.
        for name in ("starting_step", "resumed", "storage_id", "summary", "forked"):
            run.ClearField(name)
        run.resume = request.known
        yield _record(run=run)
    for segment in content.segments:
        for entry in segment:
            kind = entry.WhichOneof("record_type")
            if kind and kind not in _OWN and not (kind in _UNCOUNTED and request.known):
                yield entry


def _media(folder: Path) -> Iterator[Any]:
    """Yield a record for the images and tables, of which a kill may have taken the record."""
    record = Record()
    for path in sorted(folder.glob("media/**/*")):
        if path.is_file():
            record.files.files.add(path=str(path.relative_to(folder)))
    if record.files.files:
        yield record


def _rows(content: Content, request: Request) -> Iterator[Any]:
    """Yield the missing rows in the order of their times, with steps in that order."""
    rows = _missing(content, request)
    last = -1
    for time in sorted(rows):
        history = rows[time].history
        last = history.step.num = max(history.step.num, last + 1)
        for item in history.item:
            if (item.key or ".".join(item.nested_key)) == "_step":
                item.value_json = str(last)
        yield rows[time]


def _missing(content: Content, request: Request) -> dict[int, Any]:
    """Return the missing rows by time: as a log has them, else as the journal has them."""
    parts = content.parts()
    lost = {name for name, times in parts.items() if not times & request.times}
    wanted = {max(times) for times in content.rows() if not times & request.times}
    found: dict[int, Any] = {}
    split: set[int] = set()
    for line in content.lines:
        time = wandb_log.microseconds(line["time"])
        left = [(name, values) for name, values in line["parts"] if name in lost]
        if time in wanted and left:
            found[time] = _row(line, left)
            # A part of the row has arrived in another row.
            split |= {time} if len(left) < len(line["parts"]) else set()
    for entry in content.of_kind("history"):
        time = wandb_log.time_of(entry.history.item)
        if time in wanted - split:
            found[time] = entry
    return found


def _row(line: dict[str, Any], parts: Sequence[tuple[str, dict[str, Any]]]) -> Any:
    """Return these parts of a row of the journal as W&B's log would have it."""
    record = Record()
    values = {key: value for _, part in parts for key, value in part.items()}
    for key, value in {**values, "_timestamp": line["time"]}.items():
        record.history.item.add(nested_key=[key], value_json=json.dumps(value))
    record.history.item.add(nested_key=["_step"], value_json="0")
    record.history.step.num = line["step"] or 0
    return record


def _summaries(content: Content) -> Iterator[Any]:
    """Yield the summary: what the rows say, as far as no log has it, then what the logs say."""
    yield from content.of_kind("summary")


def _end(content: Content, request: Request) -> Any:
    ends = [e for e in (content.segments[-1] if content.segments else []) if e.HasField("exit")]
    if ends:
        return ends[-1]
    record = Record()
    record.exit.exit_code = request.exit_code
    return record


# -- artifacts -------------------------------------------------------------------------------


def _artifacts(content: Content, outbox: Path, request: Request) -> Iterator[Any]:
    for artifact in content.artifacts():
        there = (artifact.name, artifact.digest) in request.artifacts
        if artifact.name in request.missing and not there:
            yield artifact
    name = f"run-record-{content.id}"
    if name in request.missing:
        yield _run_record(content, name, outbox)


def _has_files(artifact: Any) -> bool:
    return all(Path(e.local_path).is_file() for e in artifact.manifest.contents if e.local_path)


def _run_record(content: Content, name: str, outbox: Path) -> Any:
    """Return the artifact with the record that lies in the run's folder, complete by now."""
    import wandb
    from wandb.sdk.interface.interface_sock import InterfaceSock

    made = wandb.Artifact(name, type=RECORD_TYPE)
    for file in (contract.RECORD, contract.STEPS):
        source, copy = content.folder / file, outbox / Path(file).name
        if source.is_file():
            shutil.copyfile(source, copy)
            made.add_file(str(copy), name=copy.name, policy="immutable", skip_cache=True)
    artifact = InterfaceSock._make_artifact(InterfaceSock.__new__(InterfaceSock), made)
    start: RunRecord = content.start()
    artifact.run_id, artifact.project, artifact.entity = content.id, start.project, start.entity
    artifact.finalize = True
    artifact.aliases.append("latest")
    record: ArtifactRecord = artifact
    return record


def main(arguments: Sequence[str]) -> None:
    """Write the log that the request in the outbox asks for."""
    folder, outbox = Path(arguments[0]), Path(arguments[1])
    request = read_request(outbox)
    (content,) = [c for c in contents(folder, arguments[2:]) if c.id == request.id]
    print(json.dumps({"gone": write(content, outbox, request)}))  # noqa: T201 - the host reads it


if __name__ == "__main__":
    main(sys.argv[1:])
