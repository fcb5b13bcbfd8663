"""`invoke train`: prepare, run, say how it went."""

import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from samerun.core import contract, variables
from samerun.core.errors import UsageError
from samerun.core.record import Run
from samerun.host.checkout.project import Project
from samerun.host.container import process
from samerun.host.launch import execute, prepare, request, resume
from samerun.host.launch.prepare import Prepared
from samerun.host.launch.request import Request
from samerun.host.machine import engine, network
from samerun.host.run.folders import folder_of
from samerun.host.run.summary import headline
from samerun.host.tracking import keys

if TYPE_CHECKING:
    from docker import DockerClient


def train(asked: Request, project: Project, say: Callable[[str], None]) -> Run:
    """Train, and return the complete record; its exit code is the training's own."""
    if asked.resume is not None:
        return _resume(asked, say)
    key = find_key(asked)
    # What needs no engine is checked before one is asked for.
    checked = prepare.check_early(asked, project)
    client = engine.connect()
    prepared = prepare.prepare(client, asked, project, checked, key, say)
    return _execute(client, prepared, asked, key, say)


def _resume(asked: Request, say: Callable[[str], None]) -> Run:
    """Go on with a run in its own folder."""
    resume.refuse_changes(asked)
    request.check_request(asked)
    folder = folder_of(asked.resume or "", asked.output)
    client = engine.connect()
    run = resume.settle(client, folder)
    key = None if resume.is_offline(run) else find_key(asked)
    prepared = resume.prepare(client, asked, folder, run, key, say)
    return _execute(client, prepared, asked, key, say)


def _execute(
    client: "DockerClient",
    prepared: Prepared,
    asked: Request,
    key: keys.Key | None,
    say: Callable[[str], None],
) -> Run:
    say(headline(prepared.run))
    for name in contract.PROXIES:
        if "@" in os.environ.get(name, ""):
            say(f"{name} holds a login, so the container does not get it (docs/security.md).")
    if asked.no_network:
        say("No network: W&B records offline, `invoke sync` delivers it later.")
    if prepared.spec.network == network.NAME:
        network.ensure(client)
        network.shield()
    return execute.execute(client, prepared, key, say, asked.restarts)


def folder(asked: Request, run: Run) -> Path:
    """Return the folder of *run*, which `train` ran for *asked*."""
    if asked.resume is not None:
        return folder_of(asked.resume, asked.output)
    return Path(asked.output).expanduser().resolve() / run.name


def find_key(asked: Request) -> keys.Key | None:
    """Return the W&B key; None where W&B is not to be reached."""
    if asked.no_network or os.environ.get("WANDB_MODE") in variables.OFFLINE_MODES:
        return None
    file = Path(asked.api_key_file).expanduser() if asked.api_key_file else None
    return keys.find(file)


def show(asked: Request, project: Project) -> str:
    """Return the command that `train` would run, for a shell; needs no engine."""
    if asked.resume is not None:
        raise UsageError("--dry and --resume exclude each other.", "Use `invoke show RUN`.")
    key = find_key(asked)
    planned = prepare.dry(asked, project, has_key=key is not None)
    # The key's file gets its real name, at random, only while a run needs it.
    file = keys.TMPFS / "samerun-XXXXXXXX" / "netrc" if key else None
    return shlex.join(process.with_key(planned, file).argv())
