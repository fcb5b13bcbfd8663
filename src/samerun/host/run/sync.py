"""`invoke sync`: deliver what W&B's server lacks of a run, and check there that it arrived."""

import dataclasses
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any

from samerun.core import contract, record, variables
from samerun.core.errors import KeyFileError, RecordError, SyncIncomplete, UsageError
from samerun.core.record import Mount, Run
from samerun.host.checkout.project import DEFAULT_CUDA, tag
from samerun.host.container.process import with_key
from samerun.host.container.spec import ContainerSpec
from samerun.host.image import identity
from samerun.host.machine import engine, network, user
from samerun.host.run import folders, integrity, listing, outbox, recover
from samerun.host.run.folders import folder_of
from samerun.host.tracking import delivery, graphql, keys, synced
from samerun.host.tracking.delivery import Difference, Logged
from samerun.host.tracking.graphql import Api

if TYPE_CHECKING:
    from docker import DockerClient

WORKDIR = "/tmp"  # noqa: S108 - in the container, of its own.
# The server may take a while to show what it was given.
PATIENCE_S = 20.0


@dataclass(frozen=True, kw_only=True)
class Sender:
    """A run, and what it takes to send it: the engine's, the user's and W&B's."""

    client: "DockerClient"
    run: Run
    folder: Path
    key: keys.Key
    api: Api
    network: str
    image: str


def choose(name: str | None, output: Path, *, every: bool) -> list[Path]:
    """
    Return the folders of the runs to deliver.

    Raises:
        UsageError: Neither a run nor all of them, or both.
    """
    if bool(name) == every:
        raise UsageError("Which run?", "Give its name or folder, or --all.")
    if name:
        return [folder_of(name, str(output))]
    found = []
    for folder in listing.records(output):
        run = record.read(folder)
        if run.wandb and synced.state(folder, run) != "yes" and not folders.is_held(folder):
            found.append(folder)
    return found


def sync(folder: Path, key_file: Path | None, network_name: str | None) -> list[str]:
    """
    Deliver the run in *folder*; return a line for each of its W&B runs.

    It happens in the run's image, where artifacts lie at the paths that W&B noted. What
    the server has already is not sent again.

    Raises:
        KeyFileError: No key was found, or the server refuses it.
        RecordError: The run logged nothing to W&B.
        RunBusy: It is going on.
        SyncIncomplete: The server lacks something, also after the delivery.
    """
    if not record.read(folder).wandb:
        raise RecordError(f"{folder} has no W&B run.", "There is nothing to deliver.")
    key = keys.find(key_file)
    if key is None:
        raise KeyFileError("No W&B key was found.", "Set WANDB_API_KEY or give --api-key-file.")
    client = engine.connect()
    run = recover.settle(client, folder)
    integrity.verify(folder, run)
    image = _image(client, run)
    if network_name is None:
        network.ensure(client)
    sender = Sender(
        client=client,
        run=run,
        folder=folder,
        key=key,
        api=graphql.connect(key),
        network=network_name or network.NAME,
        image=image,
    )
    with folders.held(folder):
        found = [_deliver(sender, logged) for logged in read(sender)]
        return _conclude(sender, found)


def _image(client: "DockerClient", run: Run) -> str:
    """
    Return the run's image; this checkout's where the record names none.

    What W&B noted is read and sent by any image of the kit: nothing is trained here.

    Raises:
        ImageNotFound: It is not on this machine.
    """
    return identity.identify(client, run.image.reference or tag(DEFAULT_CUDA)).reference


def _conclude(sender: Sender, found: list[Difference]) -> list[str]:
    """Note what the server has; SyncIncomplete if that is not all."""
    noted = [dataclasses.asdict(difference) for difference in found]
    complete = all(difference.is_complete for difference in found)
    synced.note(sender.folder, sender.run, noted, complete=complete)
    lines = [difference.line() for difference in found]
    if complete:
        outbox.forget(sender.folder)
    else:
        raise SyncIncomplete(
            "W&B's server has " + "; ".join(lines) + ".",
            "What is missing is on disk: try again later. An artifact whose files are gone "
            "from the run's folder can't be delivered.",
        )
    return lines


def _deliver(sender: Sender, logged: Logged) -> Difference:
    entity = delivery.entity_of(sender.api, logged)
    found = delivery.compare(logged, delivery.ask(sender.api, entity, logged))
    # A run without rows and artifacts is there as soon as the server knows it.
    if found.is_complete and _is_known(sender, entity, logged):
        return found
    _send(sender, logged)
    until = time.monotonic() + PATIENCE_S
    while True:
        found = delivery.compare(logged, delivery.ask(sender.api, entity, logged))
        if found.is_complete or time.monotonic() > until:
            return found
        time.sleep(2)


def _is_known(sender: Sender, entity: str, logged: Logged) -> bool:
    return delivery.ask(sender.api, entity, logged).state in ("finished", "failed", "crashed")


def read(sender: Sender) -> list[Logged]:
    """
    Read the run's W&B logs, inside its image.

    Raises:
        RecordError: They can't be read.
    """
    dirs = [f"{contract.OUTPUT}/{entry.dir}" for entry in sender.run.wandb]
    mounts = (Mount(source=str(sender.folder), target=contract.OUTPUT),)
    module = ("-m", "samerun.train.hooks.wandb_log", *dirs)
    plan = _spec(sender, "python", module, mounts, network.NONE)
    _clear(plan)
    done = subprocess.run(plan.argv(), capture_output=True, text=True, check=False)
    try:
        found: list[dict[str, Any]] = json.loads(done.stdout)
        return delivery.group(found)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RecordError(
            f"The W&B logs in {sender.folder} can't be read: {last}", "See `invoke show`."
        ) from error


def _send(sender: Sender, logged: Logged) -> None:
    owner = user.of_folder(sender.folder)
    mounts = outbox.mounts(sender.folder, logged.dirs, owner)
    # wandb's exit code is 0 also for what did not arrive: the server is asked instead.
    arguments = ("sync", "--include-online", "--include-synced", *logged.dirs)
    # Where the key lies can't be known to what the run wrote: wandb uploads any path named there.
    place = f"/run/secrets/{token_hex(16)}/netrc"
    with keys.lent(sender.key, *owner) as netrc:
        plan = _spec(sender, "wandb", arguments, mounts, sender.network)
        plan = with_key(plan, netrc, place)
        _clear(plan)
        subprocess.run(plan.argv(), stdout=sys.stderr, check=False)


def _clear(plan: ContainerSpec) -> None:
    """Remove the container of a sync that was killed; the run's folder is held, so it is ours."""
    name = f"samerun-{plan.run}"
    subprocess.run(["docker", "rm", "--force", name], capture_output=True, check=False)


def _spec(
    sender: Sender,
    program: str,
    arguments: tuple[str, ...],
    mounts: tuple[Mount, ...],
    network_name: str,
) -> ContainerSpec:
    """
    Return a container that reads what the run left, and believes nothing of it.

    Its working directory is its own, so that neither Python nor wandb takes code or settings
    from the run's folder.
    """
    run, folder = sender.run, sender.folder
    settings = {n: os.environ[n] for n in contract.FORWARDED if n in os.environ}
    for name in ("WANDB_MODE", "WANDB_TAGS", "WANDB_NAME"):
        settings.pop(name, None)
    uid, gid = user.of_folder(folder)
    own = {"PYTHONSAFEPATH": "1", "WANDB_DIR": WORKDIR, "WANDB_CONFIG_DIR": WORKDIR}
    return ContainerSpec(
        # Of this folder: a run of the same name may lie in another one.
        run=f"{run.name}-sync-{folder.stat().st_ino}",
        image=sender.image,
        user=f"{uid}:{gid}",
        target="",
        entrypoint=program,
        arguments=arguments,
        procs=1,
        seed=run.seed,
        shm_size=run.topology.shm_size,
        mounts=mounts,
        environment=variables.present(settings) | own,
        network=network_name,
        workdir=WORKDIR,
        detach=False,
    )
