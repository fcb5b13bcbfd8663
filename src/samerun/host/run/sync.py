"""`invoke sync`: upload what W&B is missing of a run, and check that it arrived."""

import dataclasses
import json
import os
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
from samerun.host.container import foreground
from samerun.host.container.process import with_key
from samerun.host.container.spec import ContainerSpec
from samerun.host.image import identity
from samerun.host.machine import engine, network, user
from samerun.host.run import folders, integrity, leftovers, listing, outbox, recover
from samerun.host.run.folders import folder_of
from samerun.host.tracking import delivery, graphql, keys, synced
from samerun.host.tracking.delivery import Difference, Logged
from samerun.host.tracking.graphql import Api

if TYPE_CHECKING:
    from docker import DockerClient

WORKDIR = "/tmp"  # noqa: S108 - in the container
# The server may take a while to show what was uploaded.
PATIENCE_S = 20.0


@dataclass(frozen=True, kw_only=True)
class Sender:
    """A run, and what is needed to upload it."""

    client: "DockerClient"
    run: Run
    folder: Path
    key: keys.Key
    api: Api
    network: str
    image: str


def choose(name: str | None, output: Path, *, every: bool) -> list[Path]:
    """
    Return the folders of the runs to upload.

    Raises:
        UsageError: Neither a run nor --all was given, or both.
    """
    if bool(name) == every:
        given = "Both a run and --all were given." if name else "No run was given."
        raise UsageError(given, "Give one run's name or folder, or --all.")
    if name:
        return [folder_of(name, str(output))]
    incomplete = []
    for folder in listing.records(output):
        run = record.read(folder)
        if run.wandb and synced.state(folder, run) != "yes" and not folders.is_held(folder):
            incomplete.append(folder)
    return incomplete


def sync(folder: Path, key_file: Path | None, network_name: str | None) -> list[str]:
    """
    Upload the run in *folder*; return a line for each of its W&B runs.

    The upload runs in the run's image, where artifacts have the paths in W&B's logs. Data that
    the server already has is not sent again.

    Raises:
        KeyFileError: No key was found, or the server rejects it.
        RecordError: The run logged nothing to W&B.
        RunBusy: The run is in progress.
        SyncIncomplete: Something is missing on the server even after the upload.
    """
    if not record.read(folder).wandb:
        raise RecordError(
            f"{folder} has no W&B run, so there is nothing to upload.",
            "Give a run that logs to W&B; `invoke runs` lists them.",
        )
    key = keys.find(key_file)
    if key is None:
        raise KeyFileError("No W&B key was found.", "Set WANDB_API_KEY or pass --api-key-file.")
    client = engine.connect()
    leftovers.remove(client)
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
        differences = [_deliver(sender, logged) for logged in read(sender)]
        return _conclude(sender, differences)


def _image(client: "DockerClient", run: Run) -> str:
    """
    Return the run's image, or this checkout's if the record names none.

    Any samerun image can read and upload W&B's logs.

    Raises:
        ImageNotFound: The image is not on this machine.
    """
    return identity.identify(client, run.image.reference or tag(DEFAULT_CUDA)).reference


def _conclude(sender: Sender, differences: list[Difference]) -> list[str]:
    """Write down what the server has; SyncIncomplete if something is missing."""
    entries = [dataclasses.asdict(difference) for difference in differences]
    complete = all(difference.is_complete for difference in differences)
    synced.note(sender.folder, sender.run, entries, complete=complete)
    lines = [difference.line() for difference in differences]
    if complete:
        outbox.forget(sender.folder)
    else:
        raise SyncIncomplete(
            "W&B's server has " + "; ".join(lines) + ".",
            "Run `invoke sync` again later: the missing data is still on disk, except for "
            "artifacts whose files were deleted from the run's folder.",
        )
    return lines


def _deliver(sender: Sender, logged: Logged) -> Difference:
    entity = delivery.entity_of(sender.api, logged)
    difference = delivery.compare(logged, delivery.ask(sender.api, entity, logged))
    # A run without rows and artifacts is complete only if the server has the run itself.
    if difference.is_complete and _is_known(sender, entity, logged):
        return difference
    _send(sender, logged)
    until = time.monotonic() + PATIENCE_S
    while True:
        difference = delivery.compare(logged, delivery.ask(sender.api, entity, logged))
        if difference.is_complete or time.monotonic() > until:
            return difference
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
    done = foreground.run(plan, capture_output=True)
    try:
        logs: list[dict[str, Any]] = json.loads(done.stdout)
        return delivery.group(logs)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RecordError(
            f"The W&B logs in {sender.folder} can't be read: {last}",
            "Check that its folder wandb/ is complete and readable.",
        ) from error


def _send(sender: Sender, logged: Logged) -> None:
    owner = user.of_folder(sender.folder)
    mounts = outbox.mounts(sender.folder, logged.dirs, owner)
    # wandb exits with 0 even if data did not arrive, so the server is queried instead.
    arguments = ("sync", "--include-online", "--include-synced", *logged.dirs)
    # A random path, because wandb uploads any path that a run's files name.
    place = f"/run/secrets/{token_hex(16)}/netrc"
    with foreground.interruptible(), keys.lent(sender.key, *owner) as netrc:
        plan = _spec(sender, "wandb", arguments, mounts, sender.network)
        plan = with_key(plan, netrc, place)
        foreground.run(plan, stdout=sys.stderr)


def _spec(
    sender: Sender,
    program: str,
    arguments: tuple[str, ...],
    mounts: tuple[Mount, ...],
    network_name: str,
) -> ContainerSpec:
    """
    Return a container that reads the run's files without trusting them.

    Its working directory is not the run's folder, so neither Python nor wandb loads code or
    settings from there.
    """
    run, folder = sender.run, sender.folder
    settings = {n: os.environ[n] for n in contract.FORWARDED if n in os.environ}
    for name in ("WANDB_MODE", "WANDB_TAGS", "WANDB_NAME"):
        settings.pop(name, None)
    uid, gid = user.of_folder(folder)
    own = {"PYTHONSAFEPATH": "1", "WANDB_DIR": WORKDIR, "WANDB_CONFIG_DIR": WORKDIR}
    return ContainerSpec(
        # With the folder's inode, because another folder may have a run with the same name.
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
