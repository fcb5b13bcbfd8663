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
from datetime import UTC, datetime
from pathlib import Path

from samerun.core import content, contract, lifecycle, parts, record, surroundings
from samerun.core.errors import DataError, OutputError, WrongImage
from samerun.core.lifecycle import Ending
from samerun.core.placement import NodePlacement
from samerun.core.record import Launch, Outcome, Run
from samerun.core.variables import Facts, environment
from samerun.train.report.environment import VARIABLES
from samerun.train.standalone import kubernetes, probe
from samerun.train.standalone.probe import tell
from samerun.train.standalone.supervise import End, leave_at_once, supervise

# Variables that say how the training ran, and are no secret: the record holds them.
RECORDED = (
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
    command = [sys.executable, "-P", "-m", "samerun.train", *start.argv]
    end = supervise(command, variables(made, place))
    made = lifecycle.close(made, ending_of(made, end, place))
    try:
        record.write(place, parts.assemble(place, made))
    except OSError as error:
        tell(f"the record can't be completed: {error}")
    return end.code


def place_of(rank: int, folder: Path) -> Path:
    """Return where the machine *rank* keeps its record: *folder* may be the same for all."""
    return folder / contract.PARTS / f"node-{rank}" if rank else folder


def begin(start: Start, place: Path) -> Run:
    """Return the record of this start: a new one, or the next start of the one in *place*."""
    made = _new(start)
    given = os.environ | variables(made, place)
    launch = Launch(
        target=start.target,
        arguments=start.arguments,
        ranks=made.topology.world_size,
        environment={name: given[name] for name in RECORDED if given.get(name)},
    )
    made = dataclasses.replace(made, launch=launch, arguments=start.argv)
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
    return lifecycle.restarted(again)


def _refuse_ended(before: Run) -> None:
    # Of several machines the first one's record counts: the others follow its end.
    if before.outcome.state in lifecycle.ENDED and not before.topology.node_rank:
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


def ending_of(run: Run, end: End, place: Path) -> Ending:
    """Return the facts about the end of *run*, as its first process saw them."""
    return Ending(
        exit_code=end.code,
        duration_s=end.duration_s,
        signal=end.signal,
        out_of_memory=end.out_of_memory,
        disk_full=surroundings.is_full(place),
        missing_data=contract.DATA if run.data and not probe.has_data() else None,
    )


def variables(run: Run, place: Path) -> dict[str, str]:
    """Return what the host side would have set for the training, where nobody has."""
    given = os.environ
    facts = Facts(
        image=run.image.reference,
        # The hook adds the digest's tag.
        forwarded={"WANDB_NAME": run.name, "WANDB_MODE": given.get("WANDB_MODE", "")},
        online=bool(run.secrets),
        has_data=bool(run.data),
        has_terminal=sys.stdout.isatty(),
        checkpoints=contract.DEFAULT_CHECKPOINTS,
    )
    known = environment(facts)
    # Set and empty is an answer here: no checkpoints.
    if contract.ENV_CHECKPOINTS in given:
        del known[contract.ENV_CHECKPOINTS]
    unset = {name: value for name, value in known.items() if not given.get(name)}
    return unset | {contract.ENV_RECORD: str(place / contract.RECORD)}


def _secrets() -> tuple[str, ...]:
    """Return the name of the key where one is there: in a variable, or as a netrc file."""
    netrc = Path(os.environ.get("NETRC", contract.NETRC))
    found = os.environ.get("WANDB_API_KEY") or os.access(netrc, os.R_OK)
    return ("WANDB_API_KEY",) if found else ()
