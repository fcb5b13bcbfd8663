"""Drive the kit as a user does: by the `invoke` command, on the real engine."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent


def environment(**changes):
    """Return the tests' environment without any W&B setting, and with *changes*."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_")}
    return kept | {"NETRC": "/nonexistent"} | changes


def command(*arguments):
    """Return the command line of `invoke` in this checkout."""
    return [sys.executable, "-m", "invoke", *map(str, arguments)]


def invoke(*arguments, cwd=ROOT, **changes):
    """Run `invoke` as a user would; return the finished process with its output."""
    return subprocess.run(
        command(*arguments),
        cwd=cwd,
        env=environment(**changes),
        capture_output=True,
        text=True,
        check=False,
        timeout=1800,
    )


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
