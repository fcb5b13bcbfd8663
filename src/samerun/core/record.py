"""
The record of a run, ``run.json``: frozen dataclasses, to JSON and back.

The host writes it before the container starts. In the container, each reporter writes a
separate part (``.samerun/NAME.json``), so two processes never write to the same file.
`parts.assemble` combines them: in the container for the W&B artifact, and on the host at the
end, even if the container was killed.
"""

import dataclasses
import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self

from samerun.core import contract, data_names, migration, validation
from samerun.core.errors import RecordError
from samerun.core.files import read_plain, write_atomically

SCHEMA = 3

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
"""Names of runs, which are also names of folders and containers."""

DIGEST = re.compile(r"([0-9a-f]{64})?")

State = Literal["prepared", "running", "finished", "failed", "stopped", "killed", "preempted"]


@dataclass(frozen=True, kw_only=True)
class Base:
    """The base image; *reference* includes a digest."""

    reference: str
    origin: Literal["pulled", "bootstrapped", "unknown"]


@dataclass(frozen=True, kw_only=True)
class Image:
    """
    All digests of an image, by name; docs/contract.md describes each.

    *digest* is the main one, 64 hexadecimal digits without ``sha256:``: of the manifest or
    index, or of the config if the store has no manifest.
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
    # None: no registry was asked. RepoDigests prove nothing, because containerd fills them.
    pushed: bool | None = None
    pull_reference: str | None = None


@dataclass(frozen=True, kw_only=True)
class Code:
    """The recipe or script, and its source code."""

    kind: Literal["recipe", "script"]
    target: str
    where: Literal["image", "mounted"]
    git_commit: str | None = None
    git_dirty: bool | None = None
    patch_sha256: str | None = None


@dataclass(frozen=True, kw_only=True)
class Topology:
    """The number of processes and their devices; *gpus* as requested, ``0`` for the CPU."""

    gpus: str
    procs: int
    nodes: int = 1
    # The job continues with at least so many nodes; None: only with all.
    least_nodes: int | None = None
    # Rank of this machine; node 0 has the W&B run and the complete record.
    node_rank: int = 0
    rendezvous: str | None = None
    shm_size: str
    threads: int | None = None

    @property
    def world_size(self) -> int:
        """Number of processes on all nodes."""
        return self.procs * self.nodes


@dataclass(frozen=True, kw_only=True)
class Data:
    """
    A data folder and the hash of its content; None if a container did not read it.

    *target* is ``/data`` or ``/data/NAME``. With *follow_links*, what its links lead to belongs
    to it.
    """

    source: str
    target: str
    fingerprint: str | None
    files: int | None
    size_bytes: int | None
    seconds: float | None = None
    follow_links: bool = False

    @property
    def name(self) -> str:
        """The name given with ``--data NAME=FOLDER``; empty without one."""
        return self.target.removeprefix(contract.DATA).strip("/")


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """The machine, as seen by the host."""

    cpu: str
    cores: int
    memory_bytes: int
    kernel: str
    engine: str
    gpus: tuple[str, ...] = ()
    driver: str | None = None
    host: str = ""


@dataclass(frozen=True, kw_only=True)
class Mount:
    """A folder or file of the host that is mounted in the container."""

    source: str
    target: str
    read_only: bool = True


@dataclass(frozen=True, kw_only=True)
class Launch:
    """
    How the container was started, as far as a later start reuses it.

    *target* is the entrypoint's: a recipe, or a script's path in the container. *ranks* is the
    number of processes on all nodes. None in *network* and *memory* means the engine's default,
    as for a standalone container.
    """

    target: str
    arguments: tuple[str, ...] = ()
    ranks: int = 1
    network: str | None = None
    environment: dict[str, str] = field(default_factory=dict)
    mounts: tuple[Mount, ...] = ()
    memory: str | None = None
    pids_limit: int | None = None
    docker_args: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class WandbRun:
    """A W&B run that the training started; *dir* is relative to the run's folder."""

    id: str
    mode: str
    dir: str
    url: str | None = None
    name: str | None = None
    project: str | None = None
    entity: str | None = None
    rank: int | None = None
    # Number of this run among those that its process started.
    order: int | None = None


@dataclass(frozen=True, kw_only=True)
class Round:
    """The nodes that trained together, from when, and why the previous round ended."""

    nodes: tuple[int, ...]
    why: str = ""
    began: str | None = None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """State and result of a run. Times are ISO 8601 in UTC, durations in seconds."""

    state: State = "prepared"
    exit_code: int | None = None
    reason: str | None = None
    created: str
    started: str | None = None
    ended: str | None = None
    duration_s: float | None = None
    first_batch_s: float | None = None
    restarts: int = 0
    # The container's report: kind (exception, out of memory, not finite), rank, what, where.
    failure: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Run:
    """The complete record."""

    schema: int = SCHEMA
    name: str
    image: Image
    code: Code
    # As typed after `invoke train`.
    command: tuple[str, ...]
    # The options before it, as typed, except those that the record holds as data.
    options: tuple[str, ...] = ()
    # The start as data, and as a command line for people, both without secrets.
    launch: Launch | None = None
    arguments: tuple[str, ...] = ()
    config: dict[str, Any] = field(default_factory=dict)
    seed: int
    topology: Topology
    data: tuple[Data, ...] = ()
    secrets: tuple[str, ...] = ()
    hardware: Hardware
    outcome: Outcome
    # Parts that the container reports: versions and threads, W&B runs, metrics and hashes.
    environment: dict[str, Any] = field(default_factory=dict)
    wandb: tuple[WandbRun, ...] = ()
    # With several nodes: the card of each, by rank.
    nodes: tuple[dict[str, Any], ...] = ()
    rounds: tuple[Round, ...] = ()
    result: dict[str, Any] = field(default_factory=dict)
    # All starts of the container: the time, and the checkpoint from which it resumed or None.
    starts: tuple[dict[str, Any], ...] = ()
    checkpoints: dict[str, Any] = field(default_factory=dict)
    determinism: Literal["full", "fast"] = "full"
    # The run that this one reproduces: its name, or entity/project/id in W&B.
    reproduces: str | None = None
    # A standalone container writes its own record, and lists what it could not find out.
    written_by: Literal["host", "container"] = "host"
    unknown: tuple[str, ...] = ()

    def with_outcome(self, **changes: Any) -> Self:
        """Return a copy whose outcome has *changes*."""
        return dataclasses.replace(self, outcome=dataclasses.replace(self.outcome, **changes))


def fingerprints(data: Iterable[Data]) -> str | None:
    """Return the fingerprints of *data* with its names as one text; None if one is missing."""
    entries = sorted(data, key=lambda entry: entry.target)
    if any(entry.fingerprint is None for entry in entries):
        return None
    return ", ".join(f"{entry.name} {entry.fingerprint}".strip() for entry in entries)


def now() -> str:
    """Return the time in the format of records: ISO 8601 in UTC, with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def to_json(value: Any) -> str:
    """Return *value*, a dataclass of this module, as indented JSON."""
    raw = dataclasses.asdict(value)
    if isinstance(value, Run):
        raw["schema"] = _schema(value)
    return json.dumps(raw, indent=2) + "\n"


def _schema(run: Run) -> int:
    """Return the oldest schema that can express *run*, so that older images read its record."""
    has_names = any(entry.name or entry.follow_links for entry in run.data)
    return SCHEMA if has_names else 2


def from_json(text: str) -> Run:
    """
    Read a record, of this schema or an older one.

    Raises:
        RecordError: It is not JSON, has a newer schema, lacks a field, or has a value of a wrong
            type or out of range; a hostile container may have written it.
    """
    try:
        raw = json.loads(text)
        run = validation.build(Run, migration.migrate(raw, SCHEMA))
        _check_values(run)
    except (ValueError, RecursionError) as error:
        raise RecordError(
            f"The record can't be read: {_short(error)}.",
            "Restore it from a copy; the run's log and W&B files are not affected.",
        ) from error
    return run


def _short(error: Exception) -> str:
    text = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
    return text[:300].rstrip(".")


def _check_values(run: Run) -> None:
    """Refuse values that samerun never writes."""
    outcome, topology = run.outcome, run.topology
    validation.matches("name", run.name, NAME)
    validation.matches("image.digest", run.image.digest, DIGEST)
    for name in ("created", "started", "ended"):
        validation.is_time(f"outcome.{name}", getattr(outcome, name))
    for number, entry in enumerate(run.data):
        validation.matches(f"data[{number}].target", entry.target, data_names.TARGET)
    validation.in_range("seed", run.seed, 0, 2**32 - 1)
    validation.in_range("topology.procs", topology.procs, 1, 2**16)
    validation.in_range("topology.nodes", topology.nodes, 1, 2**16)
    validation.in_range("topology.node_rank", topology.node_rank, 0, 2**16)
    validation.in_range("outcome.exit_code", outcome.exit_code, 0, 255)
    validation.in_range("outcome.duration_s", outcome.duration_s, 0, math.inf)
    validation.in_range("outcome.restarts", outcome.restarts, 0, 2**31)


def write(folder: Path, run: Run) -> None:
    """Write the record of *run* to *folder* atomically."""
    write_atomically(folder / contract.RECORD, to_json(run))


def read(folder: Path) -> Run:
    """
    Read the record in *folder*.

    Raises:
        RecordError: There is none, or it can't be read.
    """
    path = folder / contract.RECORD
    try:
        text = read_plain(path).decode()
    except FileNotFoundError:
        raise RecordError(f"There is no record at {path}.", "Give the folder of a run.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(
            f"The record {path} can't be read: {error}.",
            "Restore it from a copy; the run's log and W&B files are not affected.",
        ) from error
    return from_json(text)
