"""
`invoke setup`: install and start an engine on a bare Debian or Ubuntu machine.

The steps are a list computed from the machine's state; `--dry` prints it.
"""

import json
import os
import shlex
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from samerun.core import hardware
from samerun.core.errors import SamerunError, SetupFailed
from samerun.host.checkout.project import Project
from samerun.host.machine import engine, network

DOCKER_REPOSITORY = "https://download.docker.com/linux"
NVIDIA_REPOSITORY = "https://nvidia.github.io/libnvidia-container"
LOG = "/var/log/dockerd.log"
START_TIMEOUT_S = 60
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
    key = "/usr/share/keyrings/nvidia-container-toolkit.gpg"
    restart = "systemctl restart docker" if machine.systemd else "pkill -HUP dockerd"
    return [
        Step(
            why="give containers access to the GPUs",
            command=f"{_APT} curl gpg && curl -fsSL {NVIDIA_REPOSITORY}/gpgkey "
            f"| gpg --dearmor -o {key} && echo 'deb [signed-by={key}] "
            f"{NVIDIA_REPOSITORY}/stable/deb/$(ARCH) /' "
            "> /etc/apt/sources.list.d/nvidia-container-toolkit.list "
            f"&& {_APT} nvidia-container-toolkit "
            f"&& nvidia-ctk runtime configure --runtime=docker && {restart}",
        )
    ]


def look(project: Project) -> Machine:
    """Return the state of this machine, without changing anything."""
    release = _os_release()
    answers, runtime, needs_base = _engine_state(project)
    installed = shutil.which("dockerd") is not None
    return Machine(
        system=release.get("ID", ""),
        codename=release.get("VERSION_CODENAME", ""),
        root=os.geteuid() == 0,
        systemd=Path("/run/systemd/system").is_dir(),
        engine_answers=answers,
        engine_installed=installed,
        docker_repository=not (answers or installed) and reaches(f"{DOCKER_REPOSITORY}/"),
        base_needs_bootstrap=needs_base,
        has_mmdebstrap=shutil.which("mmdebstrap") is not None,
        has_gpu=bool(hardware.probe()),
        gpu_runtime=runtime,
        shielded=_is_shielded(),
    )


def _is_shielded() -> bool:
    can = os.geteuid() == 0 and shutil.which("iptables") is not None
    return not can or network.is_shielded()


def _engine_state(project: Project) -> tuple[bool, bool, bool]:
    """Return: an engine responds; it has NVIDIA's runtime; the base must be bootstrapped."""
    from samerun.host.image import base

    try:
        client = engine.connect()
    except SamerunError:
        return False, False, False
    return True, engine.inspect(client).serves_gpus, not base.is_reachable(client, project)


def reaches(url: str) -> bool:
    """Whether an HTTP server at *url* responds within five seconds, with any status."""
    try:
        urllib.request.urlopen(url, timeout=5).close()  # noqa: S310 - only our own https URLs
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def _os_release() -> dict[str, str]:
    try:
        lines = Path("/etc/os-release").read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    pairs = (line.split("=", 1) for line in lines if "=" in line)
    return {key: value.strip('"') for key, value in pairs}


def setup(project: Project, say: Callable[[str], None], *, dry: bool) -> None:
    """
    Run the steps in two passes: the base's steps are known only once an engine runs.

    Raises:
        SetupFailed: The user is not root, or a step failed; with its command and output.
    """
    for _ in range(1 if dry else 2):
        machine = look(project)
        steps = plan(machine)
        for step in steps:
            say(f"{step.why}:\n    {step.command}")
            if not dry:
                _run_step(step, root=machine.root)
        if not steps:
            break
    if not dry:
        _confirm(say)


def _run_step(step: Step, *, root: bool) -> None:
    if not root:
        raise SetupFailed(
            "Setting up this machine requires root.",
            "Run `sudo .venv/bin/invoke setup` (or another path to invoke).",
        )
    done = subprocess.run(
        ["sh", "-c", step.command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if not step.command.endswith("&") else subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        lines = "\n".join((done.stdout or "").splitlines()[-12:])
        raise SetupFailed(
            f"`{step.command}` failed:\n{lines}", "Fix the problem, then run the command again."
        )
    if "dockerd" in step.command or "systemctl" in step.command:
        _wait_for_engine()


def _wait_for_engine() -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            engine.connect()
        except SamerunError:
            time.sleep(0.3)
        else:
            return
    tail = Path(LOG).read_text(encoding="utf-8").splitlines()[-8:] if Path(LOG).exists() else []
    raise SetupFailed(
        f"The engine did not respond within {START_TIMEOUT_S} s.\n" + "\n".join(tail),
        f"Read its log: {LOG} or `journalctl -u docker`.",
    )


def _confirm(say: Callable[[str], None]) -> None:
    facts = engine.inspect(engine.connect())
    say(f"Docker Engine {facts.version} is running ({facts.store} store, buildx {facts.buildx}).")
