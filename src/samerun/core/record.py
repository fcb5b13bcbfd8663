"""
The record of a run, ``run.json``: frozen dataclasses, to JSON and back.

The host writes it before the container starts. In the container every reporter
writes a part of its own (``.samerun/NAME.json``), so that no two processes ever
write one file, and `assemble` puts them together: in the container for the W&B
artifact, on the host at the end, also when the container was killed.
"""

import dataclasses
import json
import types
import typing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self

from samerun.core import contract
from samerun.core.errors import RecordError
from samerun.core.files import write_atomically

SCHEMA = 1

State = Literal["prepared", "running", "finished", "failed", "stopped", "killed", "preempted"]


@dataclass(frozen=True, kw_only=True)
class Base:
    """The image under ours; *reference* carries a digest."""

    reference: str
    origin: Literal["pulled", "bootstrapped", "unknown"]


@dataclass(frozen=True, kw_only=True)
class Image:
    """
    Every digest of an image, by name; see docs/contract.md for what each one is.

    *digest* is the headline, 64 hexadecimal digits without ``sha256:``: that of the
    manifest or index, or of the config where the store knows no manifest.
    """

    reference: str
    digest: str
    digest_kind: Literal["index", "manifest", "config"]
    index_digest: str | None = None
    manifest_digest: str | None = None
    config_digest: str | None = None
    layers_digest: str
    repo_digests: tuple[str, ...] = ()
    store: Literal["containerd", "classic", "unknown"]
    platform: str
    base: Base
    cuda: str | None = None
    inputs: str | None = None
    lock: str | None = None
    packages: dict[str, str] = field(default_factory=dict)
    # None: no registry was asked. RepoDigests alone prove nothing (containerd fills them).
    pushed: bool | None = None
    pull_reference: str | None = None


@dataclass(frozen=True, kw_only=True)
class Code:
    """What ran, and where its source stands."""

    kind: Literal["recipe", "script"]
    target: str
    where: Literal["image", "mounted"]
    git_commit: str | None = None
    git_dirty: bool | None = None
    patch_sha256: str | None = None


@dataclass(frozen=True, kw_only=True)
class Topology:
    """How many processes on what; *gpus* as asked, ``0`` for the CPU."""

    gpus: str
    procs: int
    nodes: int = 1
    # With fewer than all nodes the job goes on, if it was started so; None: it does not.
    least_nodes: int | None = None
    # Of this machine among several; node 0 has the W&B run and the whole record.
    node_rank: int = 0
    rendezvous: str | None = None
    shm_size: str
    threads: int | None = None

    @property
    def world_size(self) -> int:
        """Processes over all nodes."""
        return self.procs * self.nodes


@dataclass(frozen=True, kw_only=True)
class Data:
    """A data folder and the hash over its content; a container may not have read it (None)."""

    source: str
    target: str
    fingerprint: str | None
    files: int | None
    size_bytes: int | None
    seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """The machine as the host sees it."""

    cpu: str
    cores: int
    memory_bytes: int
    kernel: str
    engine: str
    gpus: tuple[str, ...] = ()
    driver: str | None = None
    host: str = ""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How it went. Times are ISO 8601 in UTC, durations in seconds."""

    state: State = "prepared"
    exit_code: int | None = None
    reason: str | None = None
    created: str
    started: str | None = None
    ended: str | None = None
    duration_s: float | None = None
    first_batch_s: float | None = None
    restarts: int = 0
    # As the container tells it: kind (exception, out of memory, not finite), rank, what, where.
    failure: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Run:
    """The whole record."""

    schema: int = SCHEMA
    name: str
    image: Image
    code: Code
    # As typed after `invoke train`, and as handed to the engine (no secret in either).
    command: tuple[str, ...]
    arguments: tuple[str, ...]
    config: dict[str, Any] = field(default_factory=dict)
    seed: int
    topology: Topology
    data: tuple[Data, ...] = ()
    secrets: tuple[str, ...] = ()
    hardware: Hardware
    outcome: Outcome
    # Parts that the container reports: versions and threads, W&B runs, metrics and hashes.
    environment: dict[str, Any] = field(default_factory=dict)
    wandb: tuple[dict[str, Any], ...] = ()
    # With several nodes: what each told the others, by rank.
    nodes: tuple[dict[str, Any], ...] = ()
    # And which of them trained together, from when on, and why that changed.
    rounds: tuple[dict[str, Any], ...] = ()
    result: dict[str, Any] = field(default_factory=dict)
    # Every start of the container: when, and from which checkpoint it went on (None: none).
    starts: tuple[dict[str, Any], ...] = ()
    checkpoints: dict[str, Any] = field(default_factory=dict)
    determinism: Literal["full", "fast"] = "full"
    # The run that this one makes again: its name, or entity/project/id in W&B.
    reproduces: str | None = None
    # A container started without the kit writes its own, and says what it could not know.
    written_by: Literal["host", "container"] = "host"
    unknown: tuple[str, ...] = ()

    def with_outcome(self, **changes: Any) -> Self:
        """Return a copy whose outcome has *changes*."""
        return dataclasses.replace(self, outcome=dataclasses.replace(self.outcome, **changes))


def now() -> str:
    """Return the time as records have it: ISO 8601 in UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def to_json(value: Any) -> str:
    """Return *value*, a dataclass of this module, as indented JSON."""
    return json.dumps(dataclasses.asdict(value), indent=2) + "\n"


def from_json(text: str) -> Run:
    """
    Read a record.

    Raises:
        RecordError: Not JSON, a field is missing, or the schema is newer than ours.
    """
    try:
        raw = json.loads(text)
        if raw["schema"] > SCHEMA:
            remedy = "Update samerun to read it."
            raise RecordError(
                f"The record has schema {raw['schema']}, this version reads up to {SCHEMA}.", remedy
            )
        return typing.cast("Run", _build(Run, raw))
    except (ValueError, KeyError, TypeError) as error:
        raise RecordError(
            f"The record can't be read: {error!r}.",
            "It may be cut off; the run's log and W&B files are unaffected.",
        ) from error


def _build(hint: Any, raw: Any) -> Any:
    """Turn JSON's plain values into what the type *hint* says; unknown keys are dropped."""
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        hints = typing.get_type_hints(hint)
        known = {f.name for f in dataclasses.fields(hint)}
        return hint(**{k: _build(hints[k], v) for k, v in raw.items() if k in known})
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple:
        return tuple(_build(args[0], item) for item in raw)
    if origin in (types.UnionType, typing.Union) and raw is not None:
        return _build(args[0], raw)
    return raw


def write(folder: Path, run: Run) -> None:
    """Write the record of *run* into *folder*, whole or not at all."""
    write_atomically(folder / contract.RECORD, to_json(run))


def read(folder: Path) -> Run:
    """Read the record in *folder*; RecordError if there is none."""
    path = folder / contract.RECORD
    if not path.is_file():
        raise RecordError(f"There is no record at {path}.", "Give the folder of a run.")
    return from_json(path.read_text(encoding="utf-8"))
