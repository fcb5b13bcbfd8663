"""
A cloud-init file: a bare Debian or Ubuntu VM trains by the same verbs as a laptop.

At every start of the machine systemd runs one script: it gets the key, and starts the
run, or goes on with it where its folder is there already.
"""

import shlex
from typing import Any

from samerun import contract
from samerun.host.cloud import text
from samerun.host.cloud.request import Asked, Place

KIT = "/opt/samerun/kit"
VENV = "/opt/samerun/venv"
SCRIPT = "/usr/local/sbin/samerun-train"
PREPARE = "/usr/local/sbin/samerun-prepare"
KEY = "/etc/samerun/wandb-key"
DATA = "/srv/samerun/data"
RUNS = "/srv/samerun/runs"
UNIT = "samerun-train.service"
PACKAGES = ["ca-certificates", "git", "python3", "python3-venv"]
# rclone's own names for buckets; the machine's identity is the login.
REMOTES = {"s3": ":s3,provider=AWS,env_auth=true:", "gs": ":gcs,env_auth=true:"}


def render(asked: Asked) -> str:
    """Return the user data; its first line is what cloud-init knows it by."""
    key = f"""
Put the W&B key on the machine, as root's own file {KEY} (mode 0600)."""
    comment = f"""cloud-config

A run of samerun on a bare Debian or Ubuntu machine. Give this file to your provider as
the machine's user data.{"" if asked.offline or asked.key_command else key}
Follow it there: journalctl -fu {UNIT}"""
    # The first line must be exactly "#cloud-config".
    return text.write([document(asked)], comment).replace("# cloud-config", "#cloud-config", 1)


def document(asked: Asked) -> dict[str, Any]:
    """Return the user data as cloud-init reads it."""
    found: dict[str, Any] = {"package_update": True, "packages": _packages(asked)}
    if asked.gpus.number:
        # Ubuntu's own module; elsewhere take an image with the driver.
        found["drivers"] = {"nvidia": {"license-accepted": True}}
    found["write_files"] = [
        _file(PREPARE, prepare(asked), "0755"),
        _file(SCRIPT, train(asked), "0755"),
        _file(f"/etc/systemd/system/{UNIT}", unit(asked), "0644"),
    ]
    # One line: cloud-init goes on after one that fails. And not waited for: it would last
    # as long as the training.
    enable = f"systemctl enable --now --no-block {UNIT}"
    found["runcmd"] = [f"{PREPARE} && systemctl daemon-reload && {enable}"]
    return found


def _packages(asked: Asked) -> list[str]:
    return PACKAGES + (["rclone"] if _buckets(asked) else [])


def _buckets(asked: Asked) -> list[Place]:
    return [place for place in (asked.data, asked.output) if place and place.kind in REMOTES]


def _file(path: str, content: str, permissions: str) -> dict[str, str]:
    return {"path": path, "permissions": permissions, "content": content}


def prepare(asked: Asked) -> str:
    """Return the script that brings the machine to a running engine, with the image on it."""
    lines = [
        "#!/bin/sh",
        "# Once: the kit, the engine, the image by its digest.",
        "set -eu",
        f"[ -d {KIT} ] || git clone {shlex.quote(asked.source or '')} {KIT}",
        *([f"git -C {KIT} checkout --quiet --detach {asked.commit}"] if asked.commit else []),
        f"[ -d {VENV} ] || python3 -m venv {VENV}",
        f"{VENV}/bin/pip install --quiet --editable {KIT}",
        f"cd {KIT}",
        f"{VENV}/bin/invoke setup",
        f"{VENV}/bin/invoke pull {asked.image}",
    ]
    return "\n".join(lines) + "\n"


def train(asked: Asked) -> str:
    """Return the script that starts the run, or goes on with it; its exit code is the run's."""
    folder = f"{_runs(asked)}/{asked.name}"
    lines = [
        "#!/bin/sh",
        "# At every start of the machine, and after exit code 75.",
        "set -eu",
        f"cd {KIT}",
        f"mkdir -p {_runs(asked)}",
        *_fetch(asked, folder),
        "# A machine that is started again after its run has nothing to do.",
        f"""if grep -qs '"state": "finished"' {folder}/{contract.RECORD}; then exit 0; fi""",
        *_key(asked),
        f"if [ -f {folder}/{contract.RECORD} ]; then",
        f"    set -- {shlex.join(_resume(asked))}",
        "else",
        f"    set -- {shlex.join(_first(asked))}",
        "fi",
        f'exec {VENV}/bin/invoke train "$@"',
    ]
    return "\n".join(lines) + "\n"


def _first(asked: Asked) -> list[str]:
    """Return the arguments of `invoke train` for the first start."""
    options = ["--name", asked.name, *_common(asked), "--image", asked.image]
    options += ["--gpus", str(asked.gpus.number), "--procs", str(asked.procs)]
    options += ["--seed", str(asked.seed), "--shm-size", asked.shm_size]
    options += ["--data", _data(asked)] if asked.data else []
    options += ["--tags", ",".join(asked.tags)] if asked.tags else []
    arguments = ["--", *asked.arguments] if asked.arguments else []
    return [asked.target, *options, *arguments]


def _resume(asked: Asked) -> list[str]:
    return ["--resume", asked.name, *_common(asked)]


def _common(asked: Asked) -> list[str]:
    key = [] if asked.offline else ["--api-key-file", _key_file(asked)]
    return ["--output", _runs(asked), *key]


def _fetch(asked: Asked, folder: str) -> list[str]:
    """Return the lines that bring buckets here: a machine that is new goes on with its run."""
    lines = []
    if asked.data and asked.data.kind in REMOTES:
        lines.append(f"rclone copy {_remote(asked.data)} {DATA}")
    if asked.output and asked.output.kind in REMOTES:
        remote = f"{_remote(asked.output)}/{asked.name}"
        lines.append(f"[ -d {folder} ] || rclone copy {remote} {folder}")
    return lines


def _key(asked: Asked) -> list[str]:
    if asked.offline or not asked.key_command:
        return []
    return ["umask 077", f"{asked.key_command} >{_key_file(asked)}"]


def _key_file(asked: Asked) -> str:
    """Return where the key lies: placed by the user, or in memory for this start alone."""
    return "/run/samerun/wandb-key" if asked.key_command else KEY


def _data(asked: Asked) -> str:
    return asked.data.name if asked.data and asked.data.kind == "path" else DATA


def _runs(asked: Asked) -> str:
    return asked.output.name if asked.output and asked.output.kind == "path" else RUNS


def _remote(place: Place) -> str:
    return shlex.quote(REMOTES[place.kind] + "/".join(filter(None, (place.name, place.path))))


def unit(asked: Asked) -> str:
    """Return the systemd unit: 75 starts again, anything else stays; a power cut is a start."""
    environment = {"HOME": "/root", **asked.settings}
    if asked.offline:
        environment["WANDB_MODE"] = "offline"
    lines = [
        "[Unit]",
        f"Description=samerun {asked.name}",
        "Wants=network-online.target",
        "After=network-online.target docker.service",
        # A machine that is preempted again and again still goes on.
        "StartLimitIntervalSec=0",
        "",
        "[Service]",
        *(f'Environment="{name}={_escape(value)}"' for name, value in environment.items()),
        "RuntimeDirectory=samerun",
        "RuntimeDirectoryMode=0700",
        f"ExecStart={SCRIPT}",
        *_upload(asked),
        f"RestartForceExitStatus={contract.EXIT_PREEMPTED}",
        "RestartSec=5",
        # The run itself answers SIGTERM with a checkpoint.
        "KillMode=mixed",
        f"TimeoutStopSec={contract.STOP_TIMEOUT_S + 30}",
        "",
        "[Install]",
        "WantedBy=multi-user.target",
    ]
    return "\n".join(lines) + "\n"


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")


def _upload(asked: Asked) -> list[str]:
    """Return the line that takes the outputs to their bucket, however the run ended."""
    if not asked.output or asked.output.kind not in REMOTES:
        return []
    remote = f"{_remote(asked.output)}/{asked.name}".replace("'", "").replace("%", "%%")
    return [f"ExecStopPost=rclone copy {RUNS}/{asked.name} {remote}"]
