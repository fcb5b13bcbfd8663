"""`invoke sync`: upload what W&B is missing of a run, and check that it arrived."""

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any, TypeVar

from samerun.core import contract, record, variables
from samerun.core.errors import KeyFileError, RecordError, SyncIncomplete, UsageError
from samerun.core.record import Mount, Run
from samerun.host.checkout.project import DEFAULT_CUDA, tag
from samerun.host.container import foreground
from samerun.host.container.process import with_key
from samerun.host.container.spec import ContainerSpec
from samerun.host.image import identity
from samerun.host.machine import engine, network, same_machine, user
from samerun.host.run import folders, integrity, leftovers, listing, outbox, recover
from samerun.host.run.folders import folder_of
from samerun.host.tracking import delivery, graphql, keys, server, synced
from samerun.host.tracking.delivery import Delivered, Difference, Logged
from samerun.host.tracking.graphql import Api

if TYPE_CHECKING:
    from docker import DockerClient

T = TypeVar("T")
WORKDIR = "/tmp"  # noqa: S108 - in the container
# The server may take a while to show what was uploaded, also by an earlier, killed sync.
PATIENCE_S = 20.0
SETTLED_S = 60.0
UNREACHABLE = 3
# In any image. Whatever the server responds, it has been reached.
PROBE = f"""
import ssl, sys, urllib.error, urllib.request
try:
    urllib.request.urlopen(sys.argv[1], timeout=15)
except urllib.error.HTTPError:
    pass
except urllib.error.URLError as error:
    if not isinstance(error.reason, ssl.SSLError):
        print(error.reason, file=sys.stderr)
        sys.exit({UNREACHABLE})
except OSError as error:
    print(error, file=sys.stderr)
    sys.exit({UNREACHABLE})
"""
CONTENT = "samerun.train.hooks.wandb_content"
WRITER = "samerun.train.hooks.wandb_outbox"


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

    The upload runs in a container, where artifacts have the paths in W&B's logs. Rows and
    artifacts that the server has are not sent again.

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
    same_machine.check(client)
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
        sender, runs = _read(sender)
        return _conclude(sender, [_deliver(sender, logged) for logged in runs])


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
            "See above for what W&B's client says. Run `invoke sync` again later: the missing data "
            "is still on disk, except for artifacts whose files were deleted.",
        )
    return lines


def _deliver(sender: Sender, logged: Logged) -> Difference:
    entity = delivery.entity_of(sender.api, logged)
    mailbox = outbox.folder_of(sender.folder, logged.id)
    difference, delivered = _ask(sender, entity, logged, settled=outbox.age(mailbox) > SETTLED_S)
    # A run without rows and artifacts is complete only if the server has the run itself.
    if difference.is_complete and delivered.state in ("finished", "failed", "crashed"):
        return difference
    _check_network(sender)
    exit_code = sender.run.outcome.exit_code
    request = delivery.request(difference, delivered, 1 if exit_code is None else exit_code)
    gone = _send(sender, logged, mailbox, request)
    difference, _ = _ask(sender, entity, logged, settled=False)
    missing = set(difference.missing_artifacts)
    return dataclasses.replace(difference, gone=tuple(n for n in gone if n in missing))


def _check_network(sender: Sender) -> None:
    """
    Refuse a network from which the server, which this machine has just reached, is not reached.

    wandb would try for as long as it runs.

    Raises:
        SyncIncomplete: It can't be reached from a container.
    """
    problem = server.unreachable(sender.network)
    if problem:
        raise SyncIncomplete("W&B can't be reached from a container.", problem)
    arguments = ("-c", PROBE, sender.api.base_url)
    done = foreground.run(
        _spec(sender, "python", arguments, (), sender.network), capture_output=True
    )
    if done.returncode == UNREACHABLE:
        raise SyncIncomplete(
            f"W&B at {sender.api.base_url} can be reached from this machine, but not from a "
            f"container on the network {sender.network!r}: {done.stderr.strip()[-200:]}.",
            "Pass --network host, or another network from which it can be reached.",
        )


def _ask(
    sender: Sender, entity: str, logged: Logged, *, settled: bool
) -> tuple[Difference, Delivered]:
    """Compare with what the server has; if it was sent something lately, give it time."""
    until = time.monotonic() + PATIENCE_S
    while True:
        delivered = delivery.ask(sender.api, entity, logged)
        difference = delivery.compare(logged, delivered)
        if difference.is_complete or settled or time.monotonic() > until:
            return difference, delivered
        time.sleep(2)


def _read(sender: Sender) -> tuple[Sender, list[Logged]]:
    """
    Read what the run logged to W&B; return it with the sender, whose image can read it.

    Raises:
        RecordError: It can't be read.
    """
    done = _run_module(sender, CONTENT, (), *_dirs(sender))
    if f"No module named {CONTENT}" in done.stderr:
        # The image is older than the journal. Any newer one reads the run as well.
        newer = identity.identify(sender.client, tag(DEFAULT_CUDA)).reference
        sender = dataclasses.replace(sender, image=newer)
        done = _run_module(sender, CONTENT, (), *_dirs(sender))
    return sender, _parsed(sender, done, delivery.read)


def _dirs(sender: Sender) -> list[str]:
    return [f"{contract.OUTPUT}/{entry.dir}" for entry in sender.run.wandb]


def _run_module(
    sender: Sender, module: str, mounts: tuple[Mount, ...], *arguments: str
) -> subprocess.CompletedProcess[str]:
    """Run a module of the image, on the run's folder, without key and network."""
    mounts = (Mount(source=str(sender.folder), target=contract.OUTPUT), *mounts)
    line = ("-m", module, contract.OUTPUT, *arguments)
    plan = _spec(sender, "python", line, mounts, network.NONE)
    return foreground.run(plan, capture_output=True)


def _parsed(sender: Sender, done: subprocess.CompletedProcess[str], parse: Callable[[Any], T]) -> T:
    try:
        return parse(json.loads(done.stdout))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RecordError(
            f"The W&B logs in {sender.folder} can't be read: {last}",
            "Check that its folder wandb/ is complete and readable.",
        ) from error


def _send(sender: Sender, logged: Logged, mailbox: Path, request: dict[str, Any]) -> list[str]:
    """Upload what the server lacks; return the names of artifacts whose files are gone."""
    owner = user.of_folder(sender.folder)
    outbox.fill(sender.folder, logged.dirs, mailbox, request, owner)
    mount = Mount(source=str(mailbox), target=outbox.TARGET, read_only=False)
    done = _run_module(sender, WRITER, (mount,), outbox.TARGET, *_dirs(sender))
    gone = _parsed(sender, done, lambda value: [str(name) for name in value["gone"]])
    # wandb exits with 0 even if data did not arrive, so the server is queried instead.
    arguments = ("sync", "--include-online", "--include-synced", outbox.LOGS)
    mounts = (Mount(source=str(sender.folder), target=contract.OUTPUT), mount)
    # A random path, because wandb uploads any path that a run's files name.
    place = f"/run/secrets/{token_hex(16)}/netrc"
    with foreground.interruptible(), keys.lent(sender.key, *owner) as netrc:
        plan = _spec(sender, "wandb", arguments, mounts, sender.network)
        plan = with_key(plan, netrc, place)
        foreground.run(plan, stdout=sys.stderr)
    return gone


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
        environment=variables.present(settings) | network.proxies() | own,
        network=network_name,
        workdir=WORKDIR,
        detach=False,
    )
