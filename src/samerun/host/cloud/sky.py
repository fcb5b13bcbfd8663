"""
A SkyPilot task: the same hardened container as on a laptop, on a machine of any cloud.

SkyPilot can start an image itself (``image_id: docker:…``), but then runs its own
services inside, as root, with SYS_ADMIN and a writable root. So the task runs
`docker run` with the very flags of the kit.
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
# Of a machine without GPUs, at least.
CPUS = 4
# The first machine's upload of a checkpoint is waited for so long, when others end earlier.
UPLOAD_S = 300
# Secrets of SkyPilot's that a private registry's login is taken from.
REGISTRY_LOGIN = ("SAMERUN_REGISTRY_USER", "SAMERUN_REGISTRY_PASSWORD")
# What the shell puts in, in the place of these; shlex leaves them as they are.
FILLED_IN = {
    "@USER@": '"$uid:$gid"',
    "@FOLDER@": '"$folder"',
    "@NETRC@": '"$netrc"',
    "@RANK@": '"$SKYPILOT_NODE_RANK"',
    "@HEAD@": '"$head"',
}


def render(asked: CloudRequest) -> str:
    """Return the task's YAML."""
    comment = f"""
A run of samerun for SkyPilot. Start it as a managed job, which comes back after a
preemption and after exit code {contract.EXIT_PREEMPTED}:
sky jobs launch {_secret_flag(asked)}FILE
The W&B key is SkyPilot's secret; it is in no file."""
    return text.write([task(asked)], comment)


def _secret_flag(asked: CloudRequest) -> str:
    return "" if asked.offline else "--secret WANDB_API_KEY "


def task(asked: CloudRequest) -> dict[str, Any]:
    """Return the task as SkyPilot reads it."""
    found: dict[str, Any] = {
        "name": asked.name,
        "num_nodes": asked.nodes,
        "resources": _resources(asked),
    }
    if not asked.offline:
        # Null: required of whoever launches.
        found["secrets"] = {"WANDB_API_KEY": None}
    found["file_mounts"] = _mounts(asked)
    found["run"] = script(asked)
    return found


def _resources(asked: CloudRequest) -> dict[str, Any]:
    gpus = {"accelerators": f"{asked.gpus.name}:{asked.gpus.number}"} if asked.gpus.number else {}
    cpus = asked.cpus or (0 if gpus else CPUS)
    return {
        **gpus,
        **({"cpus": f"{cpus}+"} if cpus else {}),
        **({"memory": f"{asked.memory[:-1]}+"} if asked.memory else {}),
        "use_spot": asked.spot,
        # Gigabytes: the image unpacked, its layers while they come, and scratch.
        "disk_size": 100,
        "job_recovery": {
            "max_restarts_on_errors": 0,
            "recover_on_exit_codes": list(asked.again),
        },
    }


def _mounts(asked: CloudRequest) -> dict[str, Any]:
    mounts: dict[str, Any] = {}
    if asked.data:
        mounts[DATA] = (
            asked.data.name if asked.data.kind == "path" else _bucket(asked.data, "MOUNT")
        )
    if asked.output:
        # Renaming needs the cached form; it uploads in the background.
        mounts[OUTPUT] = _bucket(asked.output, "MOUNT_CACHED")
    return mounts


def _bucket(place: Location, mode: str) -> dict[str, str]:
    return {"source": place.url, "mode": mode}


def script(asked: CloudRequest) -> str:
    """
    Return what SkyPilot runs on every machine; its exit code is the training's.

    SkyPilot appends lines that wait until the cached mount is uploaded. An error must not end
    the shell before them: what ends is a shell within.
    """
    lines = [
        "(",
        "set -eu",
        'docker=docker; docker info >/dev/null 2>&1 || docker="sudo -n docker"',
        f"folder={OUTPUT}/{asked.name}",
        *_several(asked),
        'mkdir -p "$folder"',
        "uid=$(id -u) gid=$(id -g)",
        "# The container is never root.",
        'if [ "$uid" = 0 ]; then uid=65532 gid=65532; chown 65532:65532 "$folder"; fi',
        "lent=$(mktemp -d /dev/shm/samerun-XXXXXXXX)",
        """trap 'rm -rf "$lent"' EXIT""",
        *_login(asked),
        f"$docker pull --quiet {asked.image}",
        *_key(asked),
        f"$docker rm --force samerun-{asked.name} >/dev/null 2>&1 || true",
        command(asked),
        ")",
        *_together(asked),
    ]
    return "\n".join(lines) + "\n"


def _several(asked: CloudRequest) -> list[str]:
    if asked.nodes == 1:
        return []
    return [
        'head=$(echo "$SKYPILOT_NODE_IPS" | head -n 1)',
        "# The first machine keeps the run's folder; the others have one of their own.",
        '[ "$SKYPILOT_NODE_RANK" = 0 ] || folder="$folder.node-$SKYPILOT_NODE_RANK"',
    ]


def _together(asked: CloudRequest) -> list[str]:
    """Return the lines that let the first machine upload its checkpoint before the job ends."""
    if asked.nodes == 1:
        return []
    return [
        "code=$?",
        "# The first to fail ends the job on all, and the checkpoint is the first machine's.",
        f'[ "$code" = 0 ] || [ "$SKYPILOT_NODE_RANK" = 0 ] || sleep {UPLOAD_S}',
        '(exit "$code")',
    ]


def _login(asked: CloudRequest) -> list[str]:
    """Return the lines that log in where the registry wants it; the login stays in memory."""
    user, password = REGISTRY_LOGIN
    host = asked.image.partition("/")[0] if references.has_host(asked.image) else "docker.io"
    return [
        f'if [ -n "${{{password}:-}}" ]; then',
        '  docker="$docker --config $lent"',
        f'  printf %s "${password}" |',
        f'    $docker login --username "${user}" --password-stdin {host}',
        f"  unset {password}",
        "fi",
    ]


def _key(asked: CloudRequest) -> list[str]:
    """Return the lines that put the key into a file in memory, where the container reads it."""
    if asked.offline:
        return []
    host = server.host(asked.settings)
    entry = "machine %s\\n  login user\\n  password %s\\n"
    return [
        'netrc="$lent/netrc"',
        f'printf \'{entry}\' {shlex.quote(host)} "$WANDB_API_KEY" >"$netrc"',
        'chmod 0400 "$netrc"',
        'if [ "$(id -u)" = 0 ]; then chown "$uid:$gid" "$netrc"; fi',
        "unset WANDB_API_KEY",
    ]


def command(asked: CloudRequest) -> str:
    """Return the line that starts the container, for a shell."""
    line = shlex.join(launch(asked).argv()).removeprefix("docker ")
    for token, value in FILLED_IN.items():
        line = line.replace(token, value)
    return f"$docker {line}"


def launch(asked: CloudRequest) -> ContainerSpec:
    """Return the container, with tokens for what only the machine knows."""
    mounts = [Mount(source="@FOLDER@", target=contract.OUTPUT, read_only=False)]
    if asked.data:
        mounts.append(Mount(source=DATA, target=contract.DATA))
    environment = asked.environment() | {contract.ENV_ENGINE: "skypilot"}
    if not asked.offline:
        mounts.append(Mount(source="@NETRC@", target=contract.NETRC))
        environment["NETRC"] = contract.NETRC
    if asked.nodes > 1:
        environment |= {
            contract.ENV_NODES: str(asked.nodes),
            contract.ENV_NODE_RANK: "@RANK@",
            contract.ENV_RDZV: f"@HEAD@:{DEFAULT_PORT}",
        }
    return ContainerSpec(
        run=asked.name,
        image=asked.image,
        user="@USER@",
        target=asked.target,
        arguments=asked.arguments,
        procs=asked.procs,
        seed=asked.seed,
        shm_size=asked.shm_size,
        mounts=tuple(mounts),
        environment=environment,
        gpus="all" if asked.gpus.number else None,
        # Machines meet on their own addresses, and NCCL on their own interfaces.
        network="host" if asked.nodes > 1 else None,
        detach=False,
    )
