"""
`invoke train --resume RUN`: the same run again, from its record, in its own folder.

The container could write to the record. So it must be what was started (see `seal`). As
another machine can't know that, nothing is handed to the engine unchecked either: the
launch is made anew, data must have the recorded fingerprint (which nobody knows who could
not read it), and only the networks of the kit are taken over.
"""

import dataclasses
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samerun.core import contract, hardware, lifecycle, variables
from samerun.core.errors import DataError, Irreproducible, OutputError, UsageError
from samerun.core.placement import NodePlacement
from samerun.core.record import Data, Image, Launch, Mount, Run
from samerun.core.variables import Facts
from samerun.host.container import docker_args, spec
from samerun.host.container.spec import ContainerSpec
from samerun.host.image import registry, resolve
from samerun.host.launch import data
from samerun.host.launch.execute import Say
from samerun.host.launch.prepare import Prepared
from samerun.host.launch.request import Request
from samerun.host.machine import engine, gpus, memory, network, user
from samerun.host.run import folders, integrity, recover
from samerun.host.tracking import keys

if TYPE_CHECKING:
    from docker import DockerClient

# Options that say where and with what room a run goes on, not what it computes.
FREE = (
    "resume", "restarts", "data", "output", "api_key_file", "network", "no_network",
    "memory", "pids_limit", "docker_arg", "dry",
)  # fmt: skip


def refuse_changes(asked: Request) -> None:
    """
    Refuse options that would make another training of it.

    Raises:
        UsageError: With their names.
    """
    changed = ["--" + name.replace("_", "-") for name in asked.given if name not in FREE]
    changed += [f"-- {' '.join(asked.arguments)}"] if asked.arguments else []
    if changed:
        flags = ", ".join(sorted(changed)).replace("--target", f"target {asked.target!r}")
        raise UsageError(
            f"A resumed run keeps its settings: {flags} can't be given.",
            "Remove it, or start a new run.",
        )


def started(run: Run) -> Launch:
    """
    Return how *run* was started.

    Raises:
        UsageError: It never was.
    """
    if run.launch is None:
        raise UsageError(f"The run {run.name} was never started.", "Start a new run.")
    return run.launch


def is_offline(run: Run) -> bool:
    """Whether the run is recorded offline: its next start is as well."""
    return started(run).environment.get("WANDB_MODE") in variables.OFFLINE_MODES


def settle(client: "DockerClient", folder: Path) -> Run:
    """
    Return the record of a run that can go on.

    Raises:
        RunBusy: It is still going on.
        UsageError: It is finished, or its code was mounted.
        RecordError: The record was changed since its last start.
    """
    run = recover.settle(client, folder)
    integrity.verify(folder, run)
    if run.outcome.state == "finished":
        raise UsageError(f"The run {run.name} is finished.", "There is nothing to go on with.")
    if run.code.where == "mounted":
        raise UsageError(
            f"The code of {run.name} was mounted: nobody knows whether it is the same.",
            "Start a new run, without --mount-code.",
        )
    return run


def check_owner(folder: Path) -> None:
    """
    Refuse a folder that the run's user can't go on in: a copy may belong to somebody else.

    Raises:
        OutputError: With the command that mends it.
    """
    uid, gid = user.of_folder(folder)
    places = (folder, folder / contract.PARTS, folder / contract.CHECKPOINTS)
    others = [place for place in places if place.is_dir() and place.stat().st_uid != uid]
    if others:
        raise OutputError(
            f"{others[0]} belongs to uid {others[0].stat().st_uid}, and the run is uid {uid}.",
            f"`sudo chown -R {uid}:{gid} {shlex.quote(str(folder))}`",
        )


def prepare(
    client: "DockerClient", asked: Request, folder: Path, run: Run, key: keys.Key | None, say: Say
) -> Prepared:
    """Return the next start of *run*, which `settle` let through."""
    check_owner(folder)
    folders.check_room(folder)
    facts = engine.inspect(client)
    selection = gpus.select(run.topology.gpus, hardware.probe(), runtime=facts.serves_gpus)
    image = find_image(client, run, say)
    found = tuple(_same_data(entry, asked.data) for entry in run.data)
    this = hardware.describe(selection.gpus, f"Docker {facts.version}")
    if (this.cpu, this.gpus) != (run.hardware.cpu, run.hardware.gpus):
        say("This is another machine than the run started on: the result may differ in its bits.")
    say(where(folder))
    return Prepared(
        spec=plan(asked, run, image, found, folder, has_key=key is not None, flag=selection.flag),
        run=lifecycle.restarted(_ours(run, image=image, data=found, hardware=this)),
        folder=folder,
        patch=b"",
        resumes=True,
    )


def _ours(run: Run, **changes: Any) -> Run:
    """Return *run* with *changes*, and kept by this side from now on."""
    return dataclasses.replace(run, **changes, written_by="host")


def where(folder: Path) -> str:
    """Return one line on where the run in *folder* goes on."""
    place = folder / contract.CHECKPOINTS
    if place.is_dir() and any(place.iterdir()):
        return f"It goes on from the last whole checkpoint in {place}."
    return "It has no checkpoint yet, so it starts from the beginning."


def find_image(client: "DockerClient", run: Run, say: Say) -> Image:
    """
    Return the very image of *run*, pulled if need be.

    Raises:
        ImageNotFound, TransferFailed: It is not to be had.
        Irreproducible: What goes by that reference holds something else.
    """
    wanted = run.image.pull_reference or run.image.reference
    if not wanted:
        raise Irreproducible(
            f"The container of {run.name} was told no image, so its record names none.",
            f"Start containers with -e {contract.ENV_IMAGE}=NAME@sha256:….",
        )
    image = registry.obtain(client, wanted, say)
    problem = resolve.mismatch(run.image, image)
    if problem:
        raise Irreproducible(
            f"{image.reference} is another image: {problem}.",
            "Pull the run's image by its digest.",
        )
    return dataclasses.replace(
        image, pushed=run.image.pushed, pull_reference=run.image.pull_reference
    )


def _same_data(entry: Data, moved: str | None) -> Data:
    if entry.fingerprint is None:
        raise DataError(
            "Nobody took a fingerprint of the data that the run had.",
            "Whether it goes on with the same can't be known; start a new run.",
        )
    if not moved and not Path(entry.source).is_dir():
        raise DataError(
            f"The data of the run are not at {entry.source or 'a place that is known'}.",
            "Name the folder of the same data with --data.",
        )
    found = data.fingerprint_folder(Path(moved or entry.source))
    if found.fingerprint != entry.fingerprint:
        raise DataError(
            f"{found.source} holds other data than the run had: {found.fingerprint}, "
            f"not {entry.fingerprint}.",
            "Name the folder of the same data with --data.",
        )
    return found


def plan(
    asked: Request,
    run: Run,
    image: Image,
    found: tuple[Data, ...],
    folder: Path,
    *,
    has_key: bool,
    flag: str | None,
) -> ContainerSpec:
    """Return the launch of *run* as it was, in the room that *asked* gives it."""
    before = started(run)
    uid, gid = user.of_folder(folder)
    mounts = [Mount(source=str(folder), target=contract.OUTPUT, read_only=False)]
    mounts += [Mount(source=entry.source, target=contract.DATA) for entry in found]
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
        environment=_environment(before, run, image, has_key=has_key, has_data=bool(found)),
        gpus=flag,
        network=_network(asked, before),
        pids_limit=asked.pids_limit,
        memory=memory.memory_limit(asked.memory),
        docker_args=docker_args.parse(asked.docker_arg),
        place=_place(run),
    )


def _place(run: Run) -> NodePlacement:
    """Return which of several nodes this machine was: all of them are to be resumed."""
    topology = run.topology
    return NodePlacement(
        count=topology.nodes,
        least=topology.least_nodes,
        rank=topology.node_rank,
        endpoint=topology.rendezvous or "",
    )


def _environment(
    before: Launch, run: Run, image: Image, *, has_key: bool, has_data: bool
) -> dict[str, str]:
    had = before.environment
    kept = {n: v for n, v in had.items() if n in contract.FORWARDED}
    facts = Facts(
        image=image.reference,
        tags=kept.pop("WANDB_TAGS", image.digest).split(","),
        forwarded=kept,
        online=has_key,
        has_data=has_data,
        seed=run.seed,
        checkpoints=had.get(contract.ENV_CHECKPOINTS, ""),
        fast=had.get(contract.ENV_FAST) == "1",
        stop_on_nan=had.get(contract.ENV_STOP_ON_NAN) == "1",
    )
    proxies = {n: v for n, v in had.items() if n in contract.PROXIES}
    return proxies | variables.environment(facts) | spec.own_variables(has_key=has_key)


def _network(asked: Request, before: Launch) -> str:
    if asked.no_network:
        return network.NONE
    if asked.network:
        return asked.network
    # A container that samerun did not start had a network of its platform's.
    if before.network not in (None, network.NONE, network.NAME):
        raise UsageError(
            f"The run had the network {before.network!r}.", "Name it again with --network."
        )
    return before.network or network.NAME
