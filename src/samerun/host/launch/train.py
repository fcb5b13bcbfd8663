"""`invoke train`: prepare a run and execute it."""

import os
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from samerun.core import contract, user_variables, variables
from samerun.core.errors import UsageError
from samerun.core.record import Run
from samerun.host.checkout.project import Project
from samerun.host.container import process
from samerun.host.launch import defaults, execute, prepare, request, resume
from samerun.host.launch.prepare import Prepared
from samerun.host.launch.request import Request
from samerun.host.machine import engine, network, same_machine
from samerun.host.run import leftovers
from samerun.host.run.folders import folder_of
from samerun.host.run.summary import headline
from samerun.host.tracking import keys, server

if TYPE_CHECKING:
    from docker import DockerClient


def train(options: Request, project: Project, say: Callable[[str], None]) -> Run:
    """Train, and return the complete record, with the training's exit code."""
    if options.resume is not None:
        return _resume(options, say)
    options = defaults.with_settings(options)
    key = find_key(options)
    # Checks that need no engine come before connecting to one.
    checked = prepare.check_early(options, project)
    client = engine.connect()
    same_machine.check(client)
    prepared = prepare.prepare(client, options, project, checked, key, say)
    return _execute(client, prepared, options, key, say)


def _resume(options: Request, say: Callable[[str], None]) -> Run:
    """Resume a run in its folder."""
    resume.refuse_changes(options)
    request.check_request(options)
    folder = folder_of(options.resume or "", options.output)
    client = engine.connect()
    same_machine.check(client)
    run = resume.settle(client, folder)
    key = None if resume.is_offline(run) else find_key(options)
    prepared = resume.prepare(client, options, folder, run, key, say)
    return _execute(client, prepared, options, key, say)


def _execute(
    client: "DockerClient",
    prepared: Prepared,
    options: Request,
    key: keys.Key | None,
    say: Callable[[str], None],
) -> Run:
    leftovers.remove(client)
    say(headline(prepared.run))
    for line in user_variables.notes(prepared.spec.environment, os.environ):
        say(line)
    for name in contract.PROXIES:
        if "@" in os.environ.get(name, ""):
            say(
                f"{name} contains a login, so it is not passed to the container (docs/security.md)."
            )
    if options.no_network:
        say("No network: W&B records offline; upload the run later with `invoke sync`.")
    for line in about_wandb(prepared):
        say(line)
    if prepared.spec.network == network.NAME:
        network.ensure(client)
        network.shield()
    return execute.execute(client, prepared, key, say, options.restarts)


def about_wandb(prepared: Prepared) -> Iterator[str]:
    """Yield why W&B can't be reached, if that is certain."""
    given = prepared.spec.environment
    if given.get("WANDB_MODE") not in variables.OFFLINE_MODES:
        text = server.unreachable(prepared.spec.network, given)
        if text:
            yield text


def folder(options: Request, run: Run) -> Path:
    """Return the folder of *run*, which `train` ran for *options*."""
    if options.resume is not None:
        return folder_of(options.resume, options.output)
    return Path(options.output).expanduser().resolve() / run.name


def find_key(options: Request) -> keys.Key | None:
    """Return the W&B key; None if W&B is offline."""
    if options.no_network or os.environ.get("WANDB_MODE") in variables.OFFLINE_MODES:
        return None
    file = Path(options.api_key_file).expanduser() if options.api_key_file else None
    return keys.find(file)


def show(options: Request, project: Project) -> str:
    """Return the command that `train` would run, for a shell; needs no engine."""
    if options.resume is not None:
        raise UsageError(
            "--dry and --resume exclude each other.",
            "Use `invoke show RUN` to see the command of a run.",
        )
    options = defaults.with_settings(options)
    key = find_key(options)
    planned = prepare.dry(options, project, has_key=key is not None)
    # The key file gets its random name only when the run starts.
    file = keys.TMPFS / "samerun-XXXXXXXX" / "netrc" if key else None
    return shlex.join(process.with_key(planned, file).argv())
