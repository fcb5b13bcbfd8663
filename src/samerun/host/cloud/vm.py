"""
A cloud-init file: a bare Debian or Ubuntu VM trains by the same verbs as a laptop.

At every start of the machine systemd runs one script: it gets the key, and starts the
run, or goes on with it where its folder is there already.
"""

import shlex
from typing import Any

from samerun.core import contract
from samerun.host.cloud import buckets, text
from samerun.host.cloud.request import CloudRequest

KIT = "/opt/samerun/kit"
VENV = "/opt/samerun/venv"
SCRIPT = "/usr/local/sbin/samerun-train"
PREPARE = "/usr/local/sbin/samerun-prepare"
KEY = "/etc/samerun/wandb-key"
DATA = "/srv/samerun/data"
RUNS = "/srv/samerun/runs"
UNIT = "samerun-train.service"
# Ubuntu's images for clouds have the cloud's own command as a snap.
SNAPS = 'PATH="$PATH:/snap/bin"'
PACKAGES = ["ca-certificates", "git", "python3", "python3-venv"]


def render(asked: CloudRequest) -> str:
    """Return the user data; its first line is what cloud-init knows it by."""
    key = f"""
Put the W&B key on the machine, as root's own file {KEY} (mode 0600)."""
    comment = f"""cloud-config

A run of samerun on a bare Debian or Ubuntu machine. Give this file to your provider as
the machine's user data.{"" if asked.offline or asked.key_command else key}
Follow it there: journalctl -fu {UNIT}"""
    # The first line must be exactly "#cloud-config".
    return text.write([document(asked)], comment).replace("# cloud-config", "#cloud-config", 1)


def document(asked: CloudRequest) -> dict[str, Any]:
    """Return the user data as cloud-init reads it."""
    found: dict[str, Any] = {"package_update": True, "packages": _packages(asked)}
    if asked.gpus.number:
        # Ubuntu's own module; elsewhere take an image with the driver.
        found["drivers"] = {"nvidia": {"license-accepted": True}}
    found["write_files"] = [
        _file(PREPARE, prepare(asked), "0755"),
        _file(SCRIPT, train(asked), "0755"),
        _file(f"/etc/systemd/system/{UNIT}", unit(asked), "0644"),
        *_upload(asked),
    ]
    # One line: cloud-init goes on after one that fails. And not waited for: it would last
    # as long as the training.
    enable = f"systemctl enable --now --no-block {UNIT}"
    found["runcmd"] = [f"{PREPARE} && systemctl daemon-reload && {enable}"]
    return found


def _packages(asked: CloudRequest) -> list[str]:
    return PACKAGES + (["rclone"] if buckets.places(asked) else [])


def _upload(asked: CloudRequest) -> list[dict[str, str]]:
    """Return the files that take the outputs to their bucket while the run goes on."""
    if not buckets.takes_outputs(asked):
        return []
    script = buckets.upload(asked, _folder(asked), UNIT)
    return [
        _file(buckets.UPLOAD, script, "0755"),
        _file(f"/etc/systemd/system/{buckets.SERVICE}", buckets.service(asked), "0644"),
        _file(f"/etc/systemd/system/{buckets.TIMER}", buckets.timer(asked), "0644"),
    ]


def _file(path: str, content: str, permissions: str) -> dict[str, str]:
    return {"path": path, "permissions": permissions, "content": content}


def prepare(asked: CloudRequest) -> str:
    """Return the script that brings the machine to a running engine, with the image on it."""
    lines = [
        "#!/bin/sh",
        "# Once: the kit, the engine, the image by its digest.",
        "set -eu",
        # cloud-init has none, and the training's unit has this one: a login is found again.
        "export HOME=/root",
        SNAPS,
        f"[ -d {KIT} ] || git clone {shlex.quote(asked.source or '')} {KIT}",
        *([f"git -C {KIT} checkout --quiet --detach {asked.commit}"] if asked.commit else []),
        f"[ -d {VENV} ] || python3 -m venv {VENV}",
        f"{VENV}/bin/pip install --quiet --editable {KIT}",
        f"cd {KIT}",
        f"{VENV}/bin/invoke setup",
        *([asked.login_command] if asked.login_command else []),
        f"{VENV}/bin/invoke pull {asked.image}",
    ]
    return "\n".join(lines) + "\n"


def train(asked: CloudRequest) -> str:
    """Return the script that starts the run, or goes on with it; its exit code is the run's."""
    folder = _folder(asked)
    lines = [
        "#!/bin/sh",
        "# At every start of the machine, and after exit code 75.",
        "set -eu",
        SNAPS,
        f"cd {KIT}",
        f"mkdir -p {_runs(asked)}",
        *buckets.fetch_run(asked, folder),
        "# A machine that is started again after its run has nothing to do.",
        f"""if grep -qs '"state": "finished"' {folder}/{contract.RECORD}; then exit 0; fi""",
        *buckets.fetch_data(asked, DATA),
        *_key(asked),
        f"if [ -f {folder}/{contract.RECORD} ]; then",
        f"    set -- {shlex.join(_resume(asked))}",
        "else",
        f"    set -- {shlex.join(_first(asked))}",
        "fi",
        f'exec {VENV}/bin/invoke train "$@"',
    ]
    return "\n".join(lines) + "\n"


def _first(asked: CloudRequest) -> list[str]:
    """Return the arguments of `invoke train` for the first start."""
    options = ["--name", asked.name, *_common(asked), "--image", asked.image]
    options += ["--gpus", str(asked.gpus.number), "--procs", str(asked.procs)]
    options += ["--seed", str(asked.seed), "--shm-size", asked.shm_size]
    options += ["--data", _data(asked)] if asked.data else []
    options += ["--tags", ",".join(asked.tags)] if asked.tags else []
    arguments = ["--", *asked.arguments] if asked.arguments else []
    return [asked.target, *options, *arguments]


def _resume(asked: CloudRequest) -> list[str]:
    return ["--resume", asked.name, *_common(asked)]


def _common(asked: CloudRequest) -> list[str]:
    key = [] if asked.offline else ["--api-key-file", _key_file(asked)]
    return ["--output", _runs(asked), *key]


def _key(asked: CloudRequest) -> list[str]:
    if asked.offline or not asked.key_command:
        return []
    # In a shell of its own: the run's folder is not to be root's secret too.
    return [f"(umask 077; {asked.key_command} >{_key_file(asked)})"]


def _key_file(asked: CloudRequest) -> str:
    """Return where the key lies: placed by the user, or in memory for this start alone."""
    return "/run/samerun/wandb-key" if asked.key_command else KEY


def _data(asked: CloudRequest) -> str:
    return asked.data.name if asked.data and asked.data.kind == "path" else DATA


def _runs(asked: CloudRequest) -> str:
    return asked.output.name if asked.output and asked.output.kind == "path" else RUNS


def _folder(asked: CloudRequest) -> str:
    return f"{_runs(asked)}/{asked.name}"


def unit(asked: CloudRequest) -> str:
    """Return the systemd unit: 75 starts again, anything else stays; a power cut is a start."""
    uploads = buckets.takes_outputs(asked)
    environment = {"HOME": "/root", **asked.settings}
    if asked.offline:
        environment["WANDB_MODE"] = "offline"
    wanted = ["network-online.target", *([buckets.TIMER] if uploads else [])]
    lines = [
        "[Unit]",
        f"Description=samerun {asked.name}",
        f"Wants={' '.join(wanted)}",
        "After=network-online.target docker.service",
        # A machine that is preempted again and again still goes on.
        "StartLimitIntervalSec=0",
        "",
        "[Service]",
        *(f'Environment="{name}={_escape(value)}"' for name, value in environment.items()),
        *buckets.settings(asked),
        "RuntimeDirectory=samerun",
        "RuntimeDirectoryMode=0700",
        f"ExecStart={SCRIPT}",
        # However the run ended; the timer goes on with what this does not get done.
        *([f"ExecStopPost=-{buckets.UPLOAD}"] if uploads else []),
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
