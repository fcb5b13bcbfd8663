"""
`invoke train --resume RUN`: resume a run from its record, in its folder.

The container can write to the record, so the record must be unchanged since the start (see
`integrity`). Another machine can't check that. So the launch is built anew, data must have the
recorded fingerprint (which requires access to the data), and only samerun's networks are reused.
"""

import dataclasses
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samerun.core import contract, hardware, lifecycle, terminal, user_variables, variables
from samerun.core.errors import DataError, Irreproducible, OutputError, UsageError
from samerun.core.placement import NodePlacement
from samerun.core.record import Data, Image, Launch, Mount, Run
from samerun.core.variables import Facts
from samerun.host.container import docker_args, spec
from samerun.host.container.spec import ContainerSpec
from samerun.host.image import registry, resolve
from samerun.host.launch import data, devices
from samerun.host.launch.data import Present
from samerun.host.launch.execute import Say
from samerun.host.launch.prepare import Prepared
from samerun.host.launch.request import Request
from samerun.host.machine import engine, gpus, memory, network, user
from samerun.host.run import folders, integrity, recover
from samerun.host.tracking import keys

if TYPE_CHECKING:
    from docker import DockerClient

# Options about the location and resources of a run, which don't change its results.
FREE = (
    "resume", "restarts", "data", "follow_links", "output", "api_key_file", "network", "no_network",
    "memory", "pids_limit", "docker_arg", "dry",
)  # fmt: skip


def refuse_changes(options: Request) -> None:
    """
    Refuse options that would change the training.

    Raises:
        UsageError: There are such options; the message lists them.
    """
    names = sorted(options.given - set(FREE))
    changed = ["--" + name.rstrip("_").replace("_", "-") for name in names]
    changed += [f"-- {' '.join(options.arguments)}"] if options.arguments else []
    if changed:
        flags = ", ".join(sorted(changed)).replace("--target", f"target {options.target!r}")
        raise UsageError(
            f"A resumed run keeps its settings: {flags} can't be given.",
            "Remove it, or start a new run.",
        )


def started(run: Run) -> Launch:
    """
    Return how *run* was started.

    Raises:
        UsageError: It was never started.
    """
    if run.launch is None:
        raise UsageError(f"The run {run.name} was never started.", "Start a new run.")
    return run.launch


def is_offline(run: Run) -> bool:
    """Whether the run is recorded offline, so that its next start is too."""
    return started(run).environment.get("WANDB_MODE") in variables.OFFLINE_MODES


def settle(client: "DockerClient", folder: Path) -> Run:
    """
    Return the record of a run that can be resumed.

    Raises:
        RunBusy: It is still in progress.
        UsageError: It is finished, or its code was mounted.
        RecordError: The record was changed since the last start.
    """
    run = recover.settle(client, folder)
    integrity.verify(folder, run)
    if run.outcome.state == "finished":
        raise UsageError(
            f"The run {run.name} is finished, so it can't be resumed.", "Start a new run."
        )
    if run.code.where == "mounted":
        raise UsageError(
            f"The code of {run.name} was mounted, so it may have changed.",
            "Start a new run without --mount-code.",
        )
    return run


def check_owner(folder: Path) -> None:
    """
    Refuse a folder in which the run's user can't write, for example a copy.

    Raises:
        OutputError: The owner is wrong; the message has the command to fix it.
    """
    uid, gid = user.of_folder(folder)
    places = (folder, folder / contract.PARTS, folder / contract.CHECKPOINTS)
    others = [place for place in places if place.is_dir() and place.stat().st_uid != uid]
    if others:
        raise OutputError(
            f"{others[0]} belongs to uid {others[0].stat().st_uid}, but the run has uid {uid}.",
            f"Run `sudo chown -R {uid}:{gid} {shlex.quote(str(folder))}`.",
        )


def prepare(
    client: "DockerClient", options: Request, folder: Path, run: Run, key: keys.Key | None, say: Say
) -> Prepared:
    """Return the next start of *run*, after `settle`."""
    check_owner(folder)
    folders.check_room(folder)
    facts = engine.inspect(client)
    selection = devices.same_devices(run, gpus.look(), facts)
    for note in devices.notes(selection, run.topology.procs):
        say(note)
    image = find_image(client, run, say)
    devices.check(client, selection, image, is_fixed=True)
    same = find_data(run.data, options)
    this = hardware.describe(selection.gpus, f"Docker {facts.version}")
    if (this.cpu, this.gpus) != (run.hardware.cpu, run.hardware.gpus):
        say("This machine differs from the one on which the run started: results may differ.")
    say(where(folder))
    return Prepared(
        spec=plan(options, run, image, same, folder, selection, has_key=key is not None),
        run=lifecycle.restarted(
            _ours(run, image=image, data=tuple(one.entry for one in same), hardware=this)
        ),
        folder=folder,
        patch=b"",
        resumes=True,
    )


def _ours(run: Run, **changes: Any) -> Run:
    """Return *run* with *changes*; from now on the host writes its record."""
    return dataclasses.replace(run, **changes, written_by="host")


def where(folder: Path) -> str:
    """Return one line about the position at which the run in *folder* resumes."""
    place = folder / contract.CHECKPOINTS
    if place.is_dir() and any(place.iterdir()):
        return f"Resuming from the last complete checkpoint in {place}."
    return "There is no checkpoint yet, so the run starts from the beginning."


def find_image(client: "DockerClient", run: Run, say: Say) -> Image:
    """
    Return exactly the image of *run*, pulled if necessary.

    Raises:
        ImageNotFound, TransferFailed: It is not available.
        Irreproducible: The reference now belongs to a different image.
    """
    wanted = run.image.pull_reference or run.image.reference
    if not wanted:
        raise Irreproducible(
            f"{contract.ENV_IMAGE} was not set, so the record of {run.name} names no image.",
            f"Start containers with -e {contract.ENV_IMAGE}=NAME@sha256:… to record it.",
        )
    image = registry.obtain(client, wanted, say)
    problem = resolve.mismatch(run.image, image)
    if problem:
        raise Irreproducible(
            f"{image.reference} is a different image: {problem}.",
            "Pull the run's image by its digest.",
        )
    return dataclasses.replace(
        image, pushed=run.image.pushed, pull_reference=run.image.pull_reference
    )


def find_data(recorded: tuple[Data, ...], options: Request) -> tuple[Present, ...]:
    """
    Return the folders with the data of the run.

    Raises:
        DataError: One is not there, or has other data than the run.
        UsageError: --data does not fit the run.
    """
    places = data.moved(recorded, options.data)
    for entry in recorded:
        _check_recorded(entry, places.get(entry.target))
    listed = data.look(
        data.Folder(
            name=entry.name,
            path=places.get(entry.target) or Path(entry.source),
            follow_links=entry.follow_links or options.follow_links,
        )
        for entry in recorded
    )
    return tuple(_same(entry, one) for entry, one in zip(recorded, listed, strict=True))


def _check_recorded(entry: Data, moved: Path | None) -> None:
    if entry.fingerprint is None:
        raise DataError(
            "No data fingerprint was recorded for this run, so the data may have changed.",
            "Start a new run.",
        )
    if not moved and not Path(entry.source).is_dir():
        raise DataError(
            f"The run's data is not at {entry.source or 'a recorded path'}.",
            f"Give the folder with the same data with {_option(entry)}.",
        )


def _option(entry: Data) -> str:
    return f"--data {entry.name}=FOLDER" if entry.name else "--data"


def _same(entry: Data, listed: data.Listed) -> Present:
    present = data.fingerprint_folder(listed)
    current = present.entry
    if current.fingerprint != entry.fingerprint:
        raise DataError(
            f"{current.source} has different data than the run: {current.fingerprint} instead of "
            f"{entry.fingerprint}.",
            f"Give the folder with the same data with {_option(entry)}.",
        )
    return present


def plan(
    options: Request,
    run: Run,
    image: Image,
    same: tuple[Present, ...],
    folder: Path,
    selection: gpus.Selection,
    *,
    has_key: bool,
) -> ContainerSpec:
    """Return the launch of *run* as it was, with the resources in *options*."""
    before = started(run)
    uid, gid = user.of_folder(folder)
    mounts = [Mount(source=str(folder), target=contract.OUTPUT, read_only=False)]
    mounts += data.all_mounts(same)
    return ContainerSpec(
        run=run.name,
        image=image.reference,
        user=f"{uid}:{gid}",
        target=before.target,
        arguments=before.arguments,
        procs=run.topology.procs,
        seed=run.seed,
        shm_size=run.topology.shm_size,
        mounts=tuple(mounts),
        environment=_environment(
            before, run, image, has_key=has_key, has_data=bool(same), number=len(selection.gpus)
        )
        | selection.variables(),
        gpus=selection.flag,
        network=_network(options, before),
        pids_limit=options.pids_limit,
        memory=memory.memory_limit(options.memory),
        docker_args=docker_args.parse(options.docker_arg),
        place=_place(run),
    )


def _place(run: Run) -> NodePlacement:
    """Return this machine's placement among several nodes, all of which must be resumed."""
    topology = run.topology
    return NodePlacement(
        count=topology.nodes,
        least=topology.least_nodes,
        rank=topology.node_rank,
        endpoint=topology.rendezvous or "",
    )


def _environment(
    before: Launch, run: Run, image: Image, *, has_key: bool, has_data: bool, number: int
) -> dict[str, str]:
    had = before.environment
    forwarded = {n: v for n, v in had.items() if n in contract.FORWARDED}
    facts = Facts(
        image=image.reference,
        tags=forwarded.pop("WANDB_TAGS", image.digest).split(","),
        forwarded=forwarded,
        online=has_key,
        gpus=number,
        has_data=has_data,
        terminal=terminal.width(),
        seed=run.seed,
        checkpoints=had.get(contract.ENV_CHECKPOINTS, ""),
        fast=had.get(contract.ENV_FAST) == "1",
        stop_on_nan=had.get(contract.ENV_STOP_ON_NAN) == "1",
        reads_from=had.get(contract.ENV_READS_FROM, ""),
    )
    proxies = {n: v for n, v in had.items() if n in contract.PROXIES}
    users = user_variables.resumed(had, os.environ)
    return proxies | variables.environment(facts) | users | spec.own_variables(has_key=has_key)


def _network(options: Request, before: Launch) -> str:
    if options.no_network:
        return network.NONE
    if options.network:
        return options.network
    # A standalone container used a network of its platform.
    if before.network not in (None, network.NONE, network.NAME):
        raise UsageError(
            f"The run used the network {before.network!r}.", "Give it again with --network."
        )
    return before.network or network.NAME
