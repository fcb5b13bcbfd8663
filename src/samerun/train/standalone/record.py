"""
The record of a standalone container; see docs/contract.md.

The first process writes it, starts the entrypoint again as a child process, forwards signals,
and completes the record. It is usually PID 1, so it also reaps orphans.

With several machines, each has a separate record for its W&B runs and comparisons. The first
machine's record lists all of them. The others' are in its folder, in case all share one folder.
"""

import dataclasses
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

from samerun.core import (
    contract,
    lifecycle,
    parts,
    record,
    surroundings,
    terminal,
    user_variables,
)
from samerun.core.errors import DataError, OutputError, WrongImage
from samerun.core.lifecycle import Ending
from samerun.core.placement import NodePlacement
from samerun.core.record import Launch, Outcome, Run
from samerun.core.variables import Facts, environment
from samerun.train import devices
from samerun.train.report.environment import is_recorded
from samerun.train.standalone import kubernetes, probe
from samerun.train.standalone.probe import tell
from samerun.train.standalone.supervise import End, leave_at_once, supervise

# Variables that describe how the training ran, without secrets, for the record.
RECORDED = (
    *sorted(value for name, value in vars(contract).items() if name.startswith("ENV_")),
    *contract.FORWARDED,
)
UNSEEN = (
    "what only the engine knows: the image's layers and configuration, and the flags with which "
    "the container was started"
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Start:
    """The arguments of the entrypoint."""

    argv: tuple[str, ...]
    target: str
    arguments: tuple[str, ...]
    procs: int
    seed: int
    nodes: NodePlacement


def is_needed(folder: Path = Path(contract.OUTPUT)) -> bool:
    """Whether the container must write its own record; prints a line if it can't."""
    if contract.ENV_RECORD in os.environ:
        return False
    if folder.is_dir() and os.access(folder, os.W_OK):
        return True
    tell(f"{folder} is not writable, so this run has no record; mount a folder there.")
    return False


def run(start: Start, folder: Path = Path(contract.OUTPUT)) -> int:
    """
    Train in a child process, with a record in *folder*; return the training's exit code.

    Raises:
        WrongImage: The image is not the expected one, or not the one of the existing record.
        DataError: The data differs from that of the existing record.
        OutputError: The record in *folder* is of a run that has ended, or of a different one.
    """
    leave_at_once()
    place = place_of(start.nodes.rank, folder)
    new = begin(start, place)
    for sentence in new.unknown:
        tell(f"unknown: {sentence}")
    place.mkdir(parents=True, exist_ok=True)
    record.write(place, new)
    command = [sys.executable, "-P", "-m", "samerun.train", *start.argv]
    end = supervise(command, variables(new, place))
    new = lifecycle.close(new, ending_of(new, end, place))
    try:
        record.write(place, parts.assemble(place, new))
    except OSError as error:
        tell(f"the record can't be completed: {error}")
    return end.code


def place_of(rank: int, folder: Path) -> Path:
    """Return the folder of the record of machine *rank*; all may share *folder*."""
    return folder / contract.PARTS / f"node-{rank}" if rank else folder


def begin(start: Start, place: Path) -> Run:
    """Return the record of this start: a new one, or the one in *place* with one more start."""
    new = _new(start)
    given = os.environ | variables(new, place)
    names = (*RECORDED, *user_variables.named(given), *filter(is_recorded, given))
    launch = Launch(
        target=start.target,
        arguments=start.arguments,
        ranks=new.topology.world_size,
        environment={name: given[name] for name in names if given.get(name)},
    )
    new = dataclasses.replace(new, launch=launch, arguments=start.argv)
    if not (place / contract.RECORD).is_file():
        return new
    return _again(record.read(place), new)


def _new(start: Start) -> Run:
    given, now, rank = os.environ, record.now(), start.nodes.rank
    engine = given.get(contract.ENV_ENGINE, "")
    answer = kubernetes.running(os.environ)
    # A wrong image is refused before the data is read.
    image, of_image = probe.describe_image(given, probe.image_facts(), answer)
    code, of_code = probe.describe_code(start.target, given.get(contract.ENV_COMMIT, ""))
    machine, of_machine = probe.describe_hardware(engine, answer)
    data, of_data = probe.describe_data(given, worth_reading=devices.work)
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


def _again(before: Run, new: Run) -> Run:
    """Return the record *before* with one more start; refuse a run that can't be resumed."""
    _refuse_ended(before)
    _refuse_another(before, new)
    was, now = (run.hardware for run in (before, new))
    if (was.cpu, was.gpus) != (now.cpu, now.gpus):
        tell("this machine differs from the one on which the run started: results may differ.")
    again = dataclasses.replace(
        before,
        starts=(*before.starts, *new.starts),
        hardware=new.hardware,
        data=before.data if _fingerprints(new) is None else new.data,
        unknown=new.unknown,
    )
    return lifecycle.restarted(again)


def _refuse_ended(before: Run) -> None:
    # With several machines, the first one's record counts.
    if before.outcome.state in lifecycle.ENDED and not before.topology.node_rank:
        raise OutputError(
            f"{contract.OUTPUT} has the run {before.name}, which has {before.outcome.state}.",
            "Mount another folder.",
        )


def _refuse_another(before: Run, new: Run) -> None:
    if before.image.digest != new.image.digest:
        raise WrongImage(
            f"The run {before.name} started in sha256:{before.image.digest or '?'}, but this is "
            f"sha256:{new.image.digest or '?'}.",
            "Start it in the same image, or mount another folder.",
        )
    was, now = ((*run.command, "seed", str(run.seed)) for run in (before, new))
    if was != now:
        raise OutputError(
            f"{contract.OUTPUT} has the run {before.name} of `{' '.join(was)}`, but this is "
            f"`{' '.join(now)}`.",
            "Mount another folder.",
        )
    pair = (_fingerprints(before), _fingerprints(new))
    if None not in pair and pair[0] != pair[1]:
        raise DataError(
            f"The run {before.name} started with the data {pair[0]}, but this is {pair[1]}.",
            "Mount the same data, or another output folder.",
        )


def _fingerprints(run: Run) -> str | None:
    """Return the fingerprint of the data of *run*; None if unknown."""
    known = record.fingerprints(run.data)
    return "none" if known == "" else known


def ending_of(run: Run, end: End, place: Path) -> Ending:
    """Return the facts about the end of *run* that its first process knows."""
    return Ending(
        exit_code=end.code,
        duration_s=end.duration_s,
        signal=end.signal,
        out_of_memory=end.out_of_memory,
        disk_full=surroundings.is_full(place),
        missing_data=contract.DATA if run.data and not probe.has_data() else None,
    )


def variables(run: Run, place: Path) -> dict[str, str]:
    """Return the variables that the host would have set, without those already set."""
    given = os.environ
    facts = Facts(
        image=run.image.reference,
        # The hook adds the tag with the digest.
        forwarded={"WANDB_NAME": run.name, "WANDB_MODE": given.get("WANDB_MODE", "")},
        online=bool(run.secrets),
        has_data=bool(run.data),
        terminal=terminal.width(),
        checkpoints=contract.DEFAULT_CHECKPOINTS,
    )
    known = environment(facts)
    # A variable that is set but empty means no checkpoints.
    if contract.ENV_CHECKPOINTS in given:
        del known[contract.ENV_CHECKPOINTS]
    unset = {name: value for name, value in known.items() if not given.get(name)}
    return unset | {contract.ENV_RECORD: str(place / contract.RECORD)}


def _secrets() -> tuple[str, ...]:
    """Return the name of the key if there is one, in a variable or as a netrc file."""
    netrc = Path(os.environ.get("NETRC", contract.NETRC))
    has_key = os.environ.get("WANDB_API_KEY") or os.access(netrc, os.R_OK)
    return ("WANDB_API_KEY",) if has_key else ()
