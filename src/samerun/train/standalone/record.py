"""
The record of a container that the kit's host side did not start; see docs/contract.md.

The first process writes it, starts the entry again below itself, passes signals on, and
completes the record. It is PID 1 as a rule, so it also buries orphans.

Of several machines each has a record of its own, by which it signs and compares. The first
one's names them all; the others' lie below it, should all share one folder.
"""

import dataclasses
import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from samerun.core import content, contract, parts, record
from samerun.core.errors import DataError, NodeLost, OutputError, WrongImage
from samerun.core.placement import NodePlacement
from samerun.core.record import Outcome, Run
from samerun.train.report.environment import VARIABLES
from samerun.train.standalone import kubernetes, probe
from samerun.train.standalone.probe import tell
from samerun.train.standalone.supervise import End, leave_at_once, supervise

ENDED = ("finished", "failed")
KILLED = {137: "SIGKILL", 143: "SIGTERM", NodeLost.exit_code: contract.NODE_LOST}
# Variables that say how the training ran, and are no secret: the record's arguments name them.
TOLD = (
    *sorted(value for name, value in vars(contract).items() if name.startswith("ENV_")),
    *contract.FORWARDED,
    *VARIABLES,
)
UNSEEN = (
    "what only the engine's side sees: the image's layers and configuration, and the flags that "
    "the container was started with"
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Start:
    """What the entry was called with."""

    argv: tuple[str, ...]
    target: str
    arguments: tuple[str, ...]
    procs: int
    seed: int
    nodes: NodePlacement


def is_needed(folder: Path = Path(contract.OUTPUT)) -> bool:
    """Whether no host side keeps a record, and one can be kept here; says so if it can't."""
    if contract.ENV_RECORD in os.environ:
        return False
    if folder.is_dir() and os.access(folder, os.W_OK):
        return True
    tell(f"{folder} can't be written, so this run has no record; mount a folder there.")
    return False


def run(start: Start, folder: Path = Path(contract.OUTPUT)) -> int:
    """
    Train below this process, with a record in *folder*; return the training's exit code.

    Raises:
        WrongImage: Another image runs than was told, or than the record's run began with.
        DataError: Other data are mounted than the record's run began with.
        OutputError: The record in *folder* is of a run that has ended, or of another one.
    """
    leave_at_once()
    place = place_of(start.nodes.rank, folder)
    made = begin(start, place)
    for sentence in made.unknown:
        tell(f"not known: {sentence}")
    place.mkdir(parents=True, exist_ok=True)
    record.write(place, made)
    command = [sys.executable, "-m", "samerun.train", *start.argv]
    end = supervise(command, variables(made, place))
    try:
        record.write(place, parts.assemble(place, ended(made, end, place)))
    except OSError as error:
        tell(f"the record can't be completed: {error}")
    return end.code


def place_of(rank: int, folder: Path) -> Path:
    """Return where the machine *rank* keeps its record: *folder* may be the same for all."""
    return folder / contract.PARTS / f"node-{rank}" if rank else folder


def begin(start: Start, place: Path) -> Run:
    """Return the record of this start: a new one, or the next start of the one in *place*."""
    made = _new(start)
    flags = _flags(os.environ | variables(made, place))
    made = dataclasses.replace(made, arguments=(*flags, *start.argv))
    if not (place / contract.RECORD).is_file():
        return made
    return _again(record.read(place), made)


def _new(start: Start) -> Run:
    given, now, rank = os.environ, record.now(), start.nodes.rank
    engine = given.get(contract.ENV_ENGINE, "")
    told = kubernetes.running(os.environ)
    # An image that is not the expected one is refused before its data are read.
    image, of_image = probe.describe_image(given, probe.image_facts(), told)
    code, of_code = probe.describe_code(start.target, given.get(contract.ENV_COMMIT, ""))
    machine, of_machine = probe.describe_hardware(engine, told)
    data, of_data = probe.describe_data(given)
    name = given.get(contract.ENV_RUN) or _name(start.target)
    return Run(
        name=f"{name}-node{rank}" if rank else name,
        image=image,
        code=code,
        command=(start.target, *start.arguments),
        arguments=(),
        seed=start.seed,
        topology=probe.describe_topology(start.procs, start.nodes),
        data=data,
        secrets=_secrets(),
        hardware=machine,
        outcome=Outcome(created=now, started=now, state="running"),
        starts=({"started": now},),
        determinism="fast" if given.get(contract.ENV_FAST) == "1" else "full",
        written_by="container",
        unknown=(*of_image, UNSEEN, *of_code, *of_machine, *of_data),
    )


def _name(target: str) -> str:
    return f"{Path(target).stem}-{datetime.now(UTC):%Y%m%d-%H%M%S}"


def _flags(given: Mapping[str, str]) -> tuple[str, ...]:
    """Return the variables that the training has, as the engine would have been given them."""
    return tuple(f"--env={name}={given[name]}" for name in TOLD if given.get(name))


def _again(before: Run, made: Run) -> Run:
    """Return the record *before* with one start more; refuse what can't be gone on with."""
    _refuse_ended(before)
    _refuse_another(before, made)
    was, now = (run.hardware for run in (before, made))
    if (was.cpu, was.gpus) != (now.cpu, now.gpus):
        tell("this is another machine than the run started on: the result may differ in its bits.")
    again = dataclasses.replace(
        before,
        starts=(*before.starts, *made.starts),
        hardware=made.hardware,
        data=before.data if _fingerprints(made) is None else made.data,
        unknown=made.unknown,
    )
    return again.with_outcome(
        state="running",
        restarts=before.outcome.restarts + 1,
        exit_code=None,
        reason=None,
        ended=None,
        failure=None,
    )


def _refuse_ended(before: Run) -> None:
    # Of several machines the first one's record counts: the others follow its end.
    if before.outcome.state in ENDED and not before.topology.node_rank:
        raise OutputError(
            f"{contract.OUTPUT} holds the run {before.name}, which has {before.outcome.state}.",
            "Mount another folder.",
        )


def _refuse_another(before: Run, made: Run) -> None:
    if before.image.digest != made.image.digest:
        raise WrongImage(
            f"The run {before.name} began in sha256:{before.image.digest or '?'}, and this is "
            f"sha256:{made.image.digest or '?'}.",
            "Start it in its own image, or mount another folder.",
        )
    was, now = ((*run.command, "seed", str(run.seed)) for run in (before, made))
    if was != now:
        raise OutputError(
            f"{contract.OUTPUT} holds the run {before.name}, of `{' '.join(was)}`; this is "
            f"`{' '.join(now)}`.",
            "Mount another folder.",
        )
    pair = (_fingerprints(before), _fingerprints(made))
    if None not in pair and pair[0] != pair[1]:
        raise DataError(
            f"The run {before.name} began with the data {pair[0]}, and here are {pair[1]}.",
            "Mount the data that it had, or another output folder.",
        )


def _fingerprints(run: Run) -> str | None:
    """Return what the data of *run* are; None where that is not known."""
    found = content.together(entry.fingerprint for entry in run.data)
    return "none" if found == "" else found


def ended(run: Run, end: End, place: Path) -> Run:
    """Return *run* with how it ended, as the host side would have put it."""
    code, now = end.code, record.now()
    begun = datetime.fromisoformat(run.starts[-1]["started"])
    spent = (datetime.fromisoformat(now) - begun).total_seconds()
    states = {0: "finished", contract.EXIT_PREEMPTED: "preempted"}
    state = states.get(code, "killed" if code in KILLED else "failed")
    reason = end.signal if state == "preempted" else KILLED.get(code)
    if end.out_of_memory and code:
        state, reason = "killed", contract.OUT_OF_MEMORY
    return run.with_outcome(
        state=state,
        exit_code=code,
        reason=_cause(run, place) if state == "failed" else reason,
        ended=now,
        duration_s=round((run.outcome.duration_s or 0) + spent, 3),
    )


def _cause(run: Run, place: Path) -> str | None:
    """Return what in the container's surroundings explains a failure, None if nothing does."""
    status = os.statvfs(place)
    if status.f_bavail * status.f_frsize < contract.FULL_BYTES:
        return contract.OUTPUT_FULL
    gone = bool(run.data) and not probe.has_data()
    return f"{contract.DATA_GONE}: {contract.DATA}" if gone else None


def variables(run: Run, place: Path) -> dict[str, str]:
    """Return what the host side would have set for the training, where nobody has."""
    known = {"WANDB_DOCKER": run.image.reference, "WANDB_NAME": run.name}
    if run.secrets:
        known["WANDB_FINISH_TIMEOUT"] = str(contract.FINISH_TIMEOUT_S)
    else:
        known["WANDB_MODE"] = "offline"
    if (os.environ.get("WANDB_MODE") or known.get("WANDB_MODE")) == "offline":
        # Else wandb asks the network for a minute at exit of an offline run.
        known["WANDB_ERROR_REPORTING"] = "false"
    if run.data:
        known[contract.ENV_DATA] = contract.DATA
    if sys.stdout.isatty():
        known[contract.ENV_PROGRESS] = "1"
    unset = {name: value for name, value in known.items() if value and not os.environ.get(name)}
    # Set and empty is an answer: no checkpoints.
    if contract.ENV_CHECKPOINTS not in os.environ:
        unset[contract.ENV_CHECKPOINTS] = contract.DEFAULT_CHECKPOINTS
    return unset | {contract.ENV_RECORD: str(place / contract.RECORD)}


def _secrets() -> tuple[str, ...]:
    """Return the name of the key where one is there: in a variable, or as a netrc file."""
    netrc = Path(os.environ.get("NETRC", contract.NETRC))
    found = os.environ.get("WANDB_API_KEY") or os.access(netrc, os.R_OK)
    return ("WANDB_API_KEY",) if found else ()
