"""
A SkyPilot task: the same hardened container as on a laptop, on a machine of any cloud.

SkyPilot can start an image itself (``image_id: docker:…``), but then it runs its own
services inside, as root, with SYS_ADMIN and a writable root. So the task runs
`docker run` with samerun's flags.
"""

import shlex
from typing import Any

from samerun.core import contract, references
from samerun.core.placement import DEFAULT_PORT
from samerun.core.record import Mount
from samerun.host.cloud import text
from samerun.host.cloud.request import CloudRequest, Location
from samerun.host.container.spec import ContainerSpec
from samerun.host.tracking import server

DATA = "/samerun/data"
OUTPUT = "/samerun/output"
# Minimum for a machine without GPUs.
CPUS = 4
# If another machine fails first, it waits this long for the first one to upload a checkpoint.
UPLOAD_S = 300
# SkyPilot secrets with the login of a private registry.
REGISTRY_LOGIN = ("SAMERUN_REGISTRY_USER", "SAMERUN_REGISTRY_PASSWORD")
# What only the machine knows, as shell code.
FILLED_IN = {
    "USER": '"$uid:$gid"',
    "FOLDER": '"$folder"',
    "NETRC": '"$netrc"',
    "RANK": '"$SKYPILOT_NODE_RANK"',
    "HEAD": '"$head"',
}


def render(request: CloudRequest) -> str:
    """Return the task's YAML."""
    comment = f"""
A run of samerun for SkyPilot. Start it as a managed job, which restarts after a
preemption and after exit code {contract.EXIT_PREEMPTED}:
sky jobs launch {_secret_flag(request)}FILE
The W&B key is a SkyPilot secret; it is in no file."""
    return text.write([task(request)], comment)


def _secret_flag(request: CloudRequest) -> str:
    return "" if request.offline else "--secret WANDB_API_KEY "


def task(request: CloudRequest) -> dict[str, Any]:
    """Return the task in SkyPilot's format."""
    fields: dict[str, Any] = {
        "name": request.name,
        "num_nodes": request.nodes,
        "resources": _resources(request),
    }
    if not request.offline:
        # Null: the launching command must provide it.
        fields["secrets"] = {"WANDB_API_KEY": None}
    fields["file_mounts"] = _mounts(request)
    fields["run"] = script(request)
    return fields


def _resources(request: CloudRequest) -> dict[str, Any]:
    gpus = (
        {"accelerators": f"{request.gpus.name}:{request.gpus.number}"}
        if request.gpus.number
        else {}
    )
    cpus = request.cpus or (0 if gpus else CPUS)
    return {
        **gpus,
        **({"cpus": f"{cpus}+"} if cpus else {}),
        **({"memory": f"{request.memory[:-1]}+"} if request.memory else {}),
        "use_spot": request.spot,
        # Gigabytes: the unpacked image, its layers during the pull, and scratch space.
        "disk_size": 100,
        "job_recovery": {
            "max_restarts_on_errors": 0,
            "recover_on_exit_codes": list(request.again),
        },
    }


def _mounts(request: CloudRequest) -> dict[str, Any]:
    mounts: dict[str, Any] = {}
    for place in request.data:
        mounts[_folder(place)] = place.name if place.kind == "path" else _bucket(place, "MOUNT")
    if request.output:
        # Only the cached mode supports renaming; it uploads in the background.
        mounts[OUTPUT] = _bucket(request.output, "MOUNT_CACHED")
    return mounts


def _folder(place: Location) -> str:
    """Return where the data is on the machine."""
    return f"{DATA}/{place.label}" if place.label else DATA


def _bucket(location: Location, mode: str) -> dict[str, str]:
    return {"source": location.url, "mode": mode}


def script(request: CloudRequest) -> str:
    """
    Return the script that SkyPilot runs on every machine; it exits with the training's code.

    SkyPilot appends lines that wait until the cached mount is uploaded. The script runs in a
    subshell, so that an error does not skip them.
    """
    lines = [
        "(",
        "set -eu",
        'docker=docker; docker info >/dev/null 2>&1 || docker="sudo -n docker"',
        f"folder={OUTPUT}/{request.name}",
        *_node_folder(request),
        'mkdir -p "$folder"',
        "uid=$(id -u) gid=$(id -g)",
        "# The container is never root.",
        'if [ "$uid" = 0 ]; then uid=65532 gid=65532; chown 65532:65532 "$folder"; fi',
        "secrets=$(mktemp -d /dev/shm/samerun-XXXXXXXX)",
        """trap 'rm -rf "$secrets"' EXIT""",
        *_login(request),
        f"$docker pull --quiet {shlex.quote(request.image)}",
        *_key(request),
        f"$docker rm --force samerun-{request.name} >/dev/null 2>&1 || true",
        command(request),
        ")",
        *_wait_for_upload(request),
    ]
    return "\n".join(lines) + "\n"


def _node_folder(request: CloudRequest) -> list[str]:
    if request.nodes == 1:
        return []
    return [
        'head=$(echo "$SKYPILOT_NODE_IPS" | head -n 1)',
        "# The first machine keeps the run's folder; each of the others has a separate folder.",
        '[ "$SKYPILOT_NODE_RANK" = 0 ] || folder="$folder.node-$SKYPILOT_NODE_RANK"',
    ]


def _wait_for_upload(request: CloudRequest) -> list[str]:
    """Return the lines that wait for the first machine to upload its checkpoint."""
    if request.nodes == 1:
        return []
    return [
        "code=$?",
        "# A failing machine ends the job on all of them; the first one holds the checkpoint.",
        f'[ "$code" = 0 ] || [ "$SKYPILOT_NODE_RANK" = 0 ] || sleep {UPLOAD_S}',
        '(exit "$code")',
    ]


def _login(request: CloudRequest) -> list[str]:
    """Return the lines that log in to the registry if necessary; the login stays in memory."""
    user, password = REGISTRY_LOGIN
    host = request.image.partition("/")[0] if references.has_host(request.image) else "docker.io"
    return [
        f'if [ -n "${{{password}:-}}" ]; then',
        '  docker="$docker --config $secrets"',
        f'  printf %s "${password}" |',
        f'    $docker login --username "${user}" --password-stdin {shlex.quote(host)}',
        f"  unset {password}",
        "fi",
    ]


def _key(request: CloudRequest) -> list[str]:
    """Return the lines that write the key to a file in memory for the container."""
    if request.offline:
        return []
    host = server.host(request.settings)
    entry = "machine %s\\n  login user\\n  password %s\\n"
    return [
        'netrc="$secrets/netrc"',
        f'printf \'{entry}\' {shlex.quote(host)} "$WANDB_API_KEY" >"$netrc"',
        'chmod 0400 "$netrc"',
        'if [ "$(id -u)" = 0 ]; then chown "$uid:$gid" "$netrc"; fi',
        "unset WANDB_API_KEY",
    ]


def command(request: CloudRequest) -> str:
    """Return the shell command that starts the container."""
    mark = _mark(request)
    line = shlex.join(launch(request, mark).argv()).removeprefix("docker ")
    for name, value in FILLED_IN.items():
        line = line.replace(mark + name + mark, value)
    return f"$docker {line}"


def _mark(request: CloudRequest) -> str:
    """Return the mark around placeholders, which shlex does not quote; no text has one in it."""
    texts = (request.target, *request.arguments, *request.environment().values())
    mark = "@"
    while any(mark + name + mark in text for name in FILLED_IN for text in texts):
        mark += "@"
    return mark


def launch(request: CloudRequest, mark: str = "@") -> ContainerSpec:
    """Return the container, with placeholders in *mark* for what only the machine knows."""
    mounts = [Mount(source=f"{mark}FOLDER{mark}", target=contract.OUTPUT, read_only=False)]
    mounts += [Mount(source=_folder(place), target=place.target) for place in request.data]
    environment = request.environment() | {contract.ENV_ENGINE: "skypilot"}
    if not request.offline:
        mounts.append(Mount(source=f"{mark}NETRC{mark}", target=contract.NETRC))
        environment["NETRC"] = contract.NETRC
    if request.nodes > 1:
        environment |= {
            contract.ENV_NODES: str(request.nodes),
            contract.ENV_NODE_RANK: f"{mark}RANK{mark}",
            contract.ENV_RDZV: f"{mark}HEAD{mark}:{DEFAULT_PORT}",
        }
    return ContainerSpec(
        run=request.name,
        image=request.image,
        user=f"{mark}USER{mark}",
        target=request.target,
        arguments=request.arguments,
        procs=request.procs,
        seed=request.seed,
        shm_size=request.shared_memory,
        mounts=tuple(mounts),
        environment=environment,
        gpus="all" if request.gpus.number else None,
        # Rendezvous and NCCL use the machines' own addresses and interfaces.
        network="host" if request.nodes > 1 else None,
        detach=False,
    )
