"""Drive the kit as a user does: by the `invoke` command, on the real engine."""

import json
import os
import subprocess
import sys
from pathlib import Path

from preloaded import Preloaded

from samerun.host.launch import data

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
# Two thirds of a second less for each of hundreds of commands. It is read from the checkout
# that the command runs in, but what it imports is of this one, as it is in every other process.
INVOKE = Preloaded(
    """
import docker, importlib, invoke.main, pkgutil, requests
import samerun.cli, samerun.core, samerun.host
for package in (samerun.cli, samerun.core, samerun.host):
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)
"""
)
PROGRAM = """
import sys
from invoke.main import program
sys.argv = ["invoke", *{words!r}]
program.run()
"""


def environment(**changes):
    """Return the tests' environment without any W&B setting, and with *changes*."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_")}
    return kept | {"NETRC": "/nonexistent"} | changes


def command(*arguments):
    """Return the command line of `invoke` in this checkout."""
    return [sys.executable, "-m", "invoke", *map(str, arguments)]


def invoke(*arguments, cwd=ROOT, **changes):
    """Run `invoke` as a user would; return the finished process with its output."""
    words = list(map(str, arguments))
    done = INVOKE.run(PROGRAM.format(words=words), environment(**changes), cwd)
    done.args = command(*words)
    return done


def split(arguments):
    """Split at ``--``, which stays with the second part."""
    at = arguments.index("--") if "--" in arguments else len(arguments)
    return arguments[:at], arguments[at:]


def read_wandb(image, folder):
    """Read the offline W&B runs in *folder* inside the image, where wandb is."""
    mounts = [
        f"--mount=type=bind,source={folder},target=/output,readonly",
        f"--mount=type=bind,source={ROOT / 'tests'},target=/tests,readonly",
    ]
    flags = ["--rm", "--network=none", "--entrypoint=python", "--env=PYTHONPATH=/tests/callback"]
    done = subprocess.run(
        ["docker", "run", *flags, *mounts, image["reference"], "/tests/docker/read_runs.py"],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def containers(client, name):
    """Return all containers of a run, ended ones too."""
    return client.containers.list(all=True, filters={"label": f"io.samerun.run={name}"})


def fingerprint(folder):
    """Return the fingerprint that a run on the data in *folder* has in its record."""
    return data.fingerprint_folder(data.list_files(data.Folder(path=folder))).entry.fingerprint
