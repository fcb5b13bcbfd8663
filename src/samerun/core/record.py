"""
The record of a run, ``run.json``: frozen dataclasses, to JSON and back.

The host writes it before the container starts. In the container every reporter
writes a part of its own (``.samerun/NAME.json``), so that no two processes ever
write one file, and `assemble` puts them together: in the container for the W&B
artifact, on the host at the end, also when the container was killed.
"""

import dataclasses
import errno
import json
import os
import secrets
import stat
import types
import typing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self

from samerun.core import contract
from samerun.core.errors import RecordError

SCHEMA = 1
LARGEST_PART = 64 * 2**20
"""Bytes. The metrics of a million epochs are smaller; the host's memory is not."""

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


def write_atomically(path: Path, text: str) -> None:
    """
    Write to a temporary name, then rename: a kill leaves the old file or the new one.

    The name can't be guessed and must be new: a link that the container laid out in the
    run's folder would else lead the host's pen to any file of the user's.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with temporary.open("x", encoding="utf-8") as file:
            file.write(text)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def read(folder: Path) -> Run:
    """Read the record in *folder*; RecordError if there is none."""
    path = folder / contract.RECORD
    if not path.is_file():
        raise RecordError(f"There is no record at {path}.", "Give the folder of a run.")
    return from_json(path.read_text(encoding="utf-8"))


def report(folder: Path, part: str, value: Any) -> None:
    """Write one part of the container's report; *part* is named by its one writer."""
    parts = folder / contract.PARTS
    parts.mkdir(exist_ok=True)
    write_atomically(parts / f"{part}.json", json.dumps(value, indent=2) + "\n")


def assemble(folder: Path, run: Run) -> Run:
    """Return *run* with what the container has reported in *folder* so far."""
    parts = folder / contract.PARTS
    environment = _part(parts / "environment.json")
    result = _part(parts / "result.json")
    first_batch = _part(parts / "first_batch.json").get("seconds")
    config = _part(parts / "config.json")
    nodes = _part(parts / "nodes.json").get("nodes")
    rounds = _part(parts / "rounds.json").get("rounds")
    rounds = [one for one in rounds if _is_round(one)] if isinstance(rounds, list) else []
    starts = _part(parts / "starts.json").get("starts")
    runs = tuple(filter(_is_wandb, map(_part, sorted(parts.glob("wandb-*.json")))))
    run = dataclasses.replace(
        run,
        environment=environment,
        result=result,
        wandb=runs,
        nodes=tuple(nodes) if isinstance(nodes, list) else (),
        rounds=tuple(rounds),
        config=config or run.config,
        starts=tuple(starts) if isinstance(starts, list) else (),
        checkpoints=_part(parts / "checkpoints.json"),
    )
    return run.with_outcome(first_batch_s=first_batch, failure=first_failure(folder))


def read_part(folder: Path, part: str) -> dict[str, Any]:
    """Return what was reported as *part* in *folder*; empty if nothing readable was."""
    return _part(folder / contract.PARTS / f"{part}.json")


def first_failure(folder: Path) -> dict[str, Any] | None:
    """Return the failure of the process that failed first: others follow from it."""
    parts = folder / contract.PARTS
    failures = [part for path in parts.glob("failure-*.json") if (part := _part(path))]
    timed = [f for f in failures if isinstance(f.get("time"), float)]
    return min(timed, key=lambda f: f["time"], default=None)


def _is_round(part: Any) -> bool:
    """Whether *part* has what the host's own lines about a round need."""
    return (
        isinstance(part, dict)
        and isinstance(part.get("nodes"), list)
        and isinstance(part.get("why"), str)
    )


def _is_wandb(part: dict[str, Any]) -> bool:
    """Whether *part* has what the host's own lines about a W&B run need."""
    named = all(isinstance(part.get(key), str) for key in ("id", "mode", "dir"))
    return named and isinstance(part.get("url"), str | None)


def _part(path: Path) -> dict[str, Any]:
    """Read one part; one that is absent or torn, or no plain file, counts as empty."""
    try:
        value = json.loads(read_plain(path))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def read_plain(path: Path) -> bytes:
    """
    Read a file that a container may have laid out: no link, no pipe, not without end.

    Raises:
        OSError: It is something else than a file of at most `LARGEST_PART` bytes.
    """
    if path.parent.is_symlink():
        raise OSError(errno.ELOOP, "a link instead of a folder", str(path.parent))
    # A pipe would let its reader wait for ever.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "no plain file", str(path))
        content = file.read(LARGEST_PART + 1)
    if len(content) > LARGEST_PART:
        raise OSError(errno.EFBIG, "too large for a part of a record", str(path))
    return content
