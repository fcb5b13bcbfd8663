"""
`invoke setup`: from a bare Debian or Ubuntu machine to a running engine.

What to do is a list of steps, made from what the machine is; `--dry` prints it.
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
# The containerd store keeps an image's digest without a push.
DAEMON_CONFIG = {"features": {"containerd-snapshotter": True}}


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What decides the steps."""

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
    # Runs are kept from this host's own services, or we can't keep them from it.
    shielded: bool


@dataclass(frozen=True, kw_only=True)
class Step:
    """One shell command and why it is run."""

    why: str
    command: str


def plan(machine: Machine) -> list[Step]:
    """
    Return the steps for *machine*; none where all is there.

    Raises:
        SetupFailed: A system other than Debian and Ubuntu without an engine.
    """
    steps: list[Step] = []
    if not machine.engine_answers:
        steps += _install(machine) if not machine.engine_installed else []
        steps += [_start(machine)]
    if machine.base_needs_bootstrap and not machine.has_mmdebstrap:
        steps.append(
            Step(
                why="no registry answers, so the base is made from Debian's packages",
                command=f"{_APT} mmdebstrap debian-archive-keyring",
            )
        )
    if machine.has_gpu and not machine.gpu_runtime:
        steps += _nvidia(machine)
    if machine.engine_answers and not machine.shielded:
        steps.append(
            Step(
                why="keep runs from this machine's own services and the cloud's metadata service",
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
            f"No engine answers, and {machine.system or 'this system'} is not Debian or Ubuntu.",
            "Install Docker Engine (docs.docker.com/engine/install), then try again.",
        )
    config = shlex.quote(json.dumps(DAEMON_CONFIG))
    settings = Step(
        why="keep images in containerd's store, where digests do not need a push",
        command=f"mkdir -p /etc/docker && test -e /etc/docker/daemon.json "
        f"|| echo {config} > /etc/docker/daemon.json",
    )
    return [settings, *(_from_docker(machine) if machine.docker_repository else _own(machine))]


def _from_docker(machine: Machine) -> list[Step]:
    url, key = f"{DOCKER_REPOSITORY}/{machine.system}", "/etc/apt/keyrings/docker.asc"
    source = f"deb [signed-by={key}] {url} {machine.codename} stable"
    return [
        Step(
            why="add Docker's own package repository",
            command=f"{_APT} ca-certificates curl && install -d /etc/apt/keyrings "
            f"&& curl -fsSL {url}/gpg -o {key} "
            f"&& echo {shlex.quote(source)} > /etc/apt/sources.list.d/docker.list",
        ),
        Step(
            why="install the newest engine with BuildKit",
            command=f"{_APT} docker-ce docker-ce-cli containerd.io docker-buildx-plugin",
        ),
    ]


def _own(machine: Machine) -> list[Step]:
    """Return the distribution's own engine; Debian 12's has no buildx, Debian 13's runs on it."""
    if machine.codename != "bookworm":
        packages = "docker.io docker-buildx" + (" docker-cli" if machine.system == "debian" else "")
        return [Step(why="install the distribution's engine", command=f"{_APT} {packages}")]
    packages = "docker.io docker-cli docker-buildx containerd"
    wanted = " ".join(f"{name}/trixie" for name in packages.split())
    return [
        Step(
            why="let apt see Debian 13, for nothing but what is asked for by name",
            command=f"{_APT} debian-archive-keyring && "
            "printf 'Types: deb\\nURIs: %s\\nSuites: trixie\\nComponents: main\\n"
            "Signed-By: /usr/share/keyrings/debian-archive-trixie-stable.gpg\\n' "
            "\"$(apt-get indextargets --format '$(SITE)' 'Codename: bookworm' "
            "'Created-By: Packages' | head -n 1)\" > /etc/apt/sources.list.d/samerun.sources && "
            "printf 'Package: *\\nPin: release n=trixie\\nPin-Priority: 50\\n' "
            "> /etc/apt/preferences.d/samerun",
        ),
        Step(
            why="install Debian 13's engine: 12's is 20.10, without buildx and containerd's store",
            command=f"{_APT} iptables {wanted}",
        ),
    ]


def _start(machine: Machine) -> Step:
    if machine.systemd:
        return Step(
            why="start the engine, now and at boot", command="systemctl enable --now docker"
        )
    return Step(
        why="start the engine (this machine has no systemd)",
        command=f"setsid nohup dockerd > {LOG} 2>&1 < /dev/null &",
    )


def _nvidia(machine: Machine) -> list[Step]:
    key = "/usr/share/keyrings/nvidia-container-toolkit.gpg"
    restart = "systemctl restart docker" if machine.systemd else "pkill -HUP dockerd"
    return [
        Step(
            why="let containers reach the GPUs",
            command=f"{_APT} curl gpg && curl -fsSL {NVIDIA_REPOSITORY}/gpgkey "
            f"| gpg --dearmor -o {key} && echo 'deb [signed-by={key}] "
            f"{NVIDIA_REPOSITORY}/stable/deb/$(ARCH) /' "
            "> /etc/apt/sources.list.d/nvidia-container-toolkit.list "
            f"&& {_APT} nvidia-container-toolkit "
            f"&& nvidia-ctk runtime configure --runtime=docker && {restart}",
        )
    ]


def look(project: Project) -> Machine:
    """Look at this machine; nothing is changed."""
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
    """Return: an engine answers; it has NVIDIA's runtime; the base must be bootstrapped."""
    from samerun.host.image import base

    try:
        client = engine.connect()
    except SamerunError:
        return False, False, False
    return True, engine.inspect(client).serves_gpus, not base.is_reachable(client, project)


def reaches(url: str) -> bool:
    """Whether an HTTP server answers at *url* within five seconds, whatever it says."""
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
    Carry out the steps, twice: what the base needs is known once an engine runs.

    Raises:
        SetupFailed: Not root, or a step failed; with its command and output.
    """
    for _ in range(1 if dry else 2):
        machine = look(project)
        steps = plan(machine)
        for step in steps:
            say(f"{step.why}:\n    {step.command}")
            if not dry:
                _carry_out(step, root=machine.root)
        if not steps:
            break
    if not dry:
        _confirm(say)


def _carry_out(step: Step, *, root: bool) -> None:
    if not root:
        raise SetupFailed(
            "Setting up this machine needs root.",
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
        raise SetupFailed(f"`{step.command}` failed:\n{lines}", "Mend that, then run it again.")
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
        f"The engine did not answer within {START_TIMEOUT_S} s.\n" + "\n".join(tail), f"See {LOG}."
    )


def _confirm(say: Callable[[str], None]) -> None:
    facts = engine.inspect(engine.connect())
    say(f"Docker Engine {facts.version} answers ({facts.store} store, buildx {facts.buildx}).")
