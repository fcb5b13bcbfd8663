"""
A cloud-init file: a bare Debian or Ubuntu VM trains with the same commands as a laptop.

At every start of the machine systemd runs one script. It gets the key, and starts the
run, or resumes it if its folder exists.
"""

import re
import shlex
from typing import Any

from samerun.core import contract, data_names
from samerun.host.cloud import buckets, text
from samerun.host.cloud.request import CloudRequest, Location

HOME = "/root"
CHECKOUT = "/opt/samerun/kit"
VENV = "/opt/samerun/venv"
SCRIPT = "/usr/local/sbin/samerun-train"
PREPARE = "/usr/local/sbin/samerun-prepare"
KEY = "/etc/samerun/wandb-key"
DATA = "/srv/samerun/data"
RUNS = "/srv/samerun/runs"
UNIT = "samerun-train.service"
# Ubuntu's cloud images install the cloud's command-line tool as a snap.
SNAPS = 'PATH="$PATH:/snap/bin"'
# The branch that the default image needs.
DRIVER = "580-server"
# cloud-init's module leaves out nvidia-smi, and its kernel module is for the newest kernel, not the
# one that runs. Without a driver the run would only start to fail later.
DRIVER_TOOLS = [
    "nvidia-smi >/dev/null 2>&1 || {",
    f"    modules=linux-modules-nvidia-{DRIVER}-$(uname -r)",
    f'    apt-get install -y nvidia-utils-{DRIVER} "$modules" || true',
    "    modprobe nvidia || true",
    "}",
    "nvidia-smi || {",
    '    echo "The NVIDIA driver does not answer. Use a VM image that includes it." >&2',
    "    exit 1",
    "}",
]
PACKAGES = ["ca-certificates", "git", "python3", "python3-venv"]


def render(request: CloudRequest) -> str:
    """Return the user data; cloud-init recognizes it by its first line."""
    key = f"""
Write the W&B key to {KEY} on the machine (owned by root, mode 0600)."""
    comment = f"""cloud-config

A run of samerun on a bare Debian or Ubuntu machine. Give this file to your provider as
the machine's user data.{"" if request.offline or request.key_command else key}
Follow the run on the machine: journalctl -fu {UNIT}"""
    # The first line must be exactly "#cloud-config".
    return text.write([document(request)], comment).replace("# cloud-config", "#cloud-config", 1)


def document(request: CloudRequest) -> dict[str, Any]:
    """Return the user data in cloud-init's format."""
    fields: dict[str, Any] = {"package_update": True, "packages": _packages(request)}
    if request.gpus.number:
        # This module exists on Ubuntu; elsewhere, use a VM image that includes the driver.
        fields["drivers"] = {"nvidia": {"license-accepted": True, "version": DRIVER}}
    fields["write_files"] = [
        _file(PREPARE, prepare(request), "0755"),
        _file(SCRIPT, train(request), "0755"),
        _file(f"/etc/systemd/system/{UNIT}", unit(request), "0644"),
        *_upload(request),
    ]
    # One line, because cloud-init continues after a line that fails. No waiting, because
    # cloud-init would last as long as the training.
    enable = f"systemctl enable --now --no-block {UNIT}"
    fields["runcmd"] = [f"{PREPARE} && systemctl daemon-reload && {enable}"]
    return fields


def _packages(request: CloudRequest) -> list[str]:
    return PACKAGES + (["rclone"] if buckets.places(request) else [])


def _upload(request: CloudRequest) -> list[dict[str, str]]:
    """Return the files that upload the outputs to their bucket during the run."""
    if not buckets.takes_outputs(request):
        return []
    script = buckets.upload(request, _folder(request), UNIT)
    return [
        _file(buckets.UPLOAD, script, "0755"),
        _file(f"/etc/systemd/system/{buckets.SERVICE}", buckets.service(request), "0644"),
        _file(f"/etc/systemd/system/{buckets.TIMER}", buckets.timer(request), "0644"),
    ]


def _file(path: str, content: str, permissions: str) -> dict[str, str]:
    return {"path": path, "permissions": permissions, "content": content}


def prepare(request: CloudRequest) -> str:
    """Return the script that installs samerun, the engine and the image on the machine."""
    lines = [
        "#!/bin/sh",
        "# Runs once: installs samerun and the engine, pulls the image by its digest.",
        "set -eu",
        # cloud-init sets no HOME. The training's unit uses the same one, so it finds the login.
        f"export HOME={HOME}",
        SNAPS,
        f"[ -d {CHECKOUT} ] || git clone -- {shlex.quote(request.source or '')} {CHECKOUT}",
        *(
            [f"git -C {CHECKOUT} checkout --quiet --detach {request.commit}"]
            if request.commit
            else []
        ),
        f"[ -d {VENV} ] || python3 -m venv {VENV}",
        f"{VENV}/bin/pip install --quiet --editable {CHECKOUT}",
        f"cd {CHECKOUT}",
        *(DRIVER_TOOLS if request.gpus.number else []),
        f"{VENV}/bin/invoke setup",
        *([request.login_command] if request.login_command else []),
        f"{VENV}/bin/invoke pull {shlex.quote(request.image)}",
    ]
    return "\n".join(lines) + "\n"


def train(request: CloudRequest) -> str:
    """Return the script that starts or resumes the run; its exit code is the run's."""
    folder = _folder(request)
    record = shlex.quote(f"{folder}/{contract.RECORD}")
    lines = [
        "#!/bin/sh",
        "# Runs at every start of the machine, and after exit code 75.",
        "set -eu",
        SNAPS,
        f"cd {CHECKOUT}",
        # Here and not in the unit, because the shell takes any text.
        *(f"export {name}={shlex.quote(value)}" for name, value in _settings(request).items()),
        f"mkdir -p {shlex.quote(_runs(request))}",
        *buckets.fetch_run(request, folder),
        "# Do nothing if the machine is restarted after the end of the run.",
        f"""if grep -qs '"state": "finished"' {record}; then exit 0; fi""",
        *buckets.fetch_data(request, DATA),
        *_key(request),
        f"if [ -f {record} ]; then",
        f"    set -- {shlex.join(_resume(request))}",
        "else",
        f"    set -- {shlex.join(_first(request))}",
        "fi",
        f'exec {VENV}/bin/invoke train "$@"',
    ]
    return "\n".join(lines) + "\n"


def _first(request: CloudRequest) -> list[str]:
    """Return the arguments of `invoke train` for the first start."""
    options = ["--name", request.name, *_common(request), "--image", request.image]
    options += ["--gpus", str(request.gpus.number), "--procs", str(request.procs)]
    options += ["--seed", str(request.seed)]
    # By default sized there, by the machine's cores.
    options += ["--shm-size", request.shm_size] if request.shm_size else []
    options += [word for n, v in request.variables.items() for word in ("--env", f"{n}={v}")]
    options += [word for place in request.data for word in ("--data", _data(place))]
    options += ["--tags", ",".join(request.tags)] if request.tags else []
    arguments = ["--", *request.arguments] if request.arguments else []
    return [request.target, *options, *arguments]


def _resume(request: CloudRequest) -> list[str]:
    return ["--resume", request.name, *_common(request)]


def _common(request: CloudRequest) -> list[str]:
    key = [] if request.offline else ["--api-key-file", _key_file(request)]
    return ["--output", _runs(request), *key]


def _key(request: CloudRequest) -> list[str]:
    if request.offline or not request.key_command:
        return []
    # In a subshell, so that the umask does not apply to the run's folder.
    return [f"(umask 077; {request.key_command} >{_key_file(request)})"]


def _key_file(request: CloudRequest) -> str:
    """Return the path of the key: written by the user, or in memory for this start only."""
    return "/run/samerun/wandb-key" if request.key_command else KEY


def _settings(request: CloudRequest) -> dict[str, str]:
    """Return W&B's settings of the training."""
    return {**request.settings, **({"WANDB_MODE": "offline"} if request.offline else {})}


def _data(place: Location) -> str:
    return data_names.shown(place.label, _path(place, buckets.in_folder(place, DATA)))


def _runs(request: CloudRequest) -> str:
    return _path(request.output, RUNS)


def _path(place: Location | None, default: str) -> str:
    """Return the path of *place* on the machine, where root's home is known: no ``~`` is left."""
    if place is None or place.kind != "path":
        return default
    return re.sub(r"^~(?=/|$)", HOME, place.name)


def _folder(request: CloudRequest) -> str:
    return f"{_runs(request)}/{request.name}"


def unit(request: CloudRequest) -> str:
    """Return the systemd unit; it restarts the run after exit code 75, and at each boot."""
    uploads = buckets.takes_outputs(request)
    wants = ["network-online.target", *([buckets.TIMER] if uploads else [])]
    lines = [
        "[Unit]",
        f"Description=samerun run {request.name}",
        f"Wants={' '.join(wants)}",
        "After=network-online.target docker.service",
        # No limit on restarts: a machine may be preempted many times.
        "StartLimitIntervalSec=0",
        "",
        "[Service]",
        f'Environment="HOME={HOME}"',
        *buckets.settings(request),
        "RuntimeDirectory=samerun",
        "RuntimeDirectoryMode=0700",
        f"ExecStart={SCRIPT}",
        # Also after a failed run. The timer retries if this upload fails.
        *([f"ExecStopPost=-{buckets.UPLOAD}"] if uploads else []),
        f"RestartForceExitStatus={contract.EXIT_PREEMPTED}",
        "RestartSec=5",
        # The run handles SIGTERM by writing a checkpoint.
        "KillMode=mixed",
        f"TimeoutStopSec={contract.STOP_TIMEOUT_S + 30}",
        "",
        "[Install]",
        "WantedBy=multi-user.target",
    ]
    return "\n".join(lines) + "\n"
