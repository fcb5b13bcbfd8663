"""The steps that bring a machine up, computed from its state."""

import json
import shlex
from dataclasses import dataclass
from pathlib import Path

from samerun.core.errors import SetupFailed
from samerun.host.machine import network

DOCKER_REPOSITORY = "https://download.docker.com/linux"
NVIDIA_REPOSITORY = "https://nvidia.github.io/libnvidia-container"
TOOLKIT_GUIDE = (
    "https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/latest/install-guide.html"
)
# Not in /etc/cdi, where it would be out of date after an update of the driver and a restart.
CDI_SPEC = Path("/var/run/cdi/nvidia.yaml")
PID_FILE = "/var/run/docker.pid"
LOG = "/var/log/dockerd.log"
# In the containerd store, an image has its manifest digest before any push.
DAEMON_CONFIG = {"features": {"containerd-snapshotter": True}}


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The state of the machine, which determines the steps."""

    system: str
    codename: str
    root: bool
    systemd: bool
    engine_answers: bool
    engine_installed: bool
    docker_repository: bool
    base_needs_bootstrap: bool
    has_mmdebstrap: bool
    has_gpu: bool
    has_driver: bool
    # The engine has NVIDIA's runtime or CDI devices, or is one that setup must not touch.
    gpu_runtime: bool
    # Runs can't reach this host's services, or we can't set the rules for it.
    shielded: bool


@dataclass(frozen=True, kw_only=True)
class Step:
    """One shell command and its purpose."""

    why: str
    command: str


def plan(machine: Machine) -> list[Step]:
    """
    Return the steps for *machine*; empty if nothing is missing.

    Raises:
        SetupFailed: There is no engine, and the system is not Debian or Ubuntu.
    """
    steps: list[Step] = []
    if not machine.engine_answers:
        steps += _install(machine) if not machine.engine_installed else []
        steps += [_start(machine)]
    if machine.base_needs_bootstrap and not machine.has_mmdebstrap:
        steps.append(
            Step(
                why="install mmdebstrap to bootstrap the base image: its registry does not respond",
                command=f"{_APT} mmdebstrap debian-archive-keyring",
            )
        )
    if machine.has_gpu and not machine.gpu_runtime:
        steps += _nvidia(machine)
    if machine.engine_answers and not machine.shielded:
        steps.append(
            Step(
                why="block runs from this machine's services and the cloud's metadata service",
                command=network.script(),
            )
        )
    return steps


_APT = "apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -q " + (
    "--no-install-recommends"
)


def _install(machine: Machine) -> list[Step]:
    if machine.system not in ("debian", "ubuntu"):
        raise SetupFailed(
            "No Docker Engine responds, and samerun can install one only on Debian and Ubuntu, "
            f"not on {machine.system or 'this system'}.",
            "Install Docker Engine (docs.docker.com/engine/install), then run the command again.",
        )
    config = shlex.quote(json.dumps(DAEMON_CONFIG))
    settings = Step(
        why="use the containerd image store, where images have their digest before a push",
        command=f"mkdir -p /etc/docker && test -e /etc/docker/daemon.json "
        f"|| echo {config} > /etc/docker/daemon.json",
    )
    return [
        settings,
        *(_from_docker(machine) if machine.docker_repository else _from_distribution(machine)),
    ]


def _from_docker(machine: Machine) -> list[Step]:
    url, key = f"{DOCKER_REPOSITORY}/{machine.system}", "/etc/apt/keyrings/docker.asc"
    source = f"deb [signed-by={key}] {url} {machine.codename} stable"
    return [
        Step(
            why="add Docker's package repository",
            command=f"{_APT} ca-certificates curl && install -d /etc/apt/keyrings "
            f"&& curl -fsSL {url}/gpg -o {key} "
            f"&& echo {shlex.quote(source)} > /etc/apt/sources.list.d/docker.list",
        ),
        Step(
            why="install the newest engine with BuildKit",
            command=f"{_APT} docker-ce docker-ce-cli containerd.io docker-buildx-plugin",
        ),
    ]


def _from_distribution(machine: Machine) -> list[Step]:
    """Return the distribution's engine; on Debian 12, which has no buildx, that of Debian 13."""
    if machine.codename != "bookworm":
        packages = "docker.io docker-buildx" + (" docker-cli" if machine.system == "debian" else "")
        return [Step(why="install the distribution's engine", command=f"{_APT} {packages}")]
    packages = "docker.io docker-cli docker-buildx containerd"
    pinned = " ".join(f"{name}/trixie" for name in packages.split())
    return [
        Step(
            why="add Debian 13 to apt, only for packages requested explicitly",
            command=f"{_APT} debian-archive-keyring && "
            "printf 'Types: deb\\nURIs: %s\\nSuites: trixie\\nComponents: main\\n"
            "Signed-By: /usr/share/keyrings/debian-archive-trixie-stable.gpg\\n' "
            "\"$(apt-get indextargets --format '$(SITE)' 'Codename: bookworm' "
            "'Created-By: Packages' | head -n 1)\" > /etc/apt/sources.list.d/samerun.sources && "
            "printf 'Package: *\\nPin: release n=trixie\\nPin-Priority: 50\\n' "
            "> /etc/apt/preferences.d/samerun",
        ),
        Step(
            why="install Debian 13's engine (12 has 20.10, without buildx and containerd store)",
            command=f"{_APT} iptables {pinned}",
        ),
    ]


def _start(machine: Machine) -> Step:
    if machine.systemd:
        return Step(why="start the engine now and at boot", command="systemctl enable --now docker")
    return Step(
        why="start the engine (this machine has no systemd)",
        command=f"setsid nohup dockerd > {LOG} 2>&1 < /dev/null &",
    )


def _nvidia(machine: Machine) -> list[Step]:
    if machine.system not in ("debian", "ubuntu"):
        raise SetupFailed(
            "Containers can't use the GPUs yet, and samerun can install the NVIDIA Container "
            f"Toolkit only on Debian and Ubuntu, not on {machine.system or 'this system'}.",
            f"Install it ({TOOLKIT_GUIDE}), then restart the engine.",
        )
    key = "/usr/share/keyrings/nvidia-container-toolkit.gpg"
    toolkit = Step(
        why="give containers access to the GPUs",
        # gpg asks before it overwrites the key of an earlier attempt, unless told.
        command=f"{_APT} ca-certificates curl gpg && curl -fsSL {NVIDIA_REPOSITORY}/gpgkey "
        f"| gpg --batch --yes --dearmor -o {key} && echo 'deb [signed-by={key}] "
        f"{NVIDIA_REPOSITORY}/stable/deb/$(ARCH) /' "
        "> /etc/apt/sources.list.d/nvidia-container-toolkit.list "
        f"&& {_APT} nvidia-container-toolkit && nvidia-ctk runtime configure --runtime=docker",
    )
    return [toolkit, *(_driver_files(machine) if machine.has_driver else ()), _restart(machine)]


def _driver_files(machine: Machine) -> list[Step]:
    """Return what depends on the driver: the CDI specification, and names of its devices."""
    generate = f"mkdir -p {CDI_SPEC.parent} && nvidia-ctk cdi generate --output={CDI_SPEC}"
    refresh = f"systemctl restart nvidia-cdi-refresh || {{ {generate}; }}"
    steps = [
        Step(
            why="describe the GPUs for engines that use CDI",
            command=refresh if machine.systemd else generate,
        )
    ]
    if machine.systemd:
        steps.append(
            Step(
                why="keep the GPUs of running containers when systemd reloads its units",
                command=f"test ! -e /dev/nvidiactl || {{ {_LINKS} && echo '{_UDEV}' > "
                "/etc/udev/rules.d/71-nvidia-dev-char.rules; }",
            )
        )
    return steps


# https://github.com/NVIDIA/nvidia-container-toolkit/issues/48
_LINKS = "nvidia-ctk system create-dev-char-symlinks --create-all"
_UDEV = f'ACTION=="add", DEVPATH=="/bus/pci/drivers/nvidia", RUN+="/usr/bin/{_LINKS}"'


def _restart(machine: Machine) -> Step:
    """Return a restart: a reload registers a runtime, but not the driver behind `--gpus`."""
    why = "restart the engine, so that it finds the toolkit"
    if machine.systemd:
        return Step(why=why, command="systemctl restart docker")
    # With the same arguments. It removes its file when it has ended; where nothing reaps its
    # process, that stays visible.
    return Step(
        why=why,
        command=f"set -e; pid=$(cat {PID_FILE}); cp /proc/$pid/cmdline {PID_FILE}.arguments; "
        f"kill $pid; n=0; while test -e {PID_FILE}; do n=$((n + 1)); test $n -lt 300; "
        f"sleep 0.2; done; setsid nohup xargs -0 -a {PID_FILE}.arguments env > {LOG} 2>&1 "
        "< /dev/null &",
    )
