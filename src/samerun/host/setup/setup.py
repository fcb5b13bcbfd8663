"""
`invoke setup`: install and start an engine on a bare Debian or Ubuntu machine.

`steps` computes what is to do from the machine's state; `--dry` prints it.
"""

import os
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

from samerun.core.errors import SamerunError, SetupFailed
from samerun.host.checkout.project import Project
from samerun.host.machine import cuda, engine, gpus, network
from samerun.host.setup import gpu
from samerun.host.setup.steps import DOCKER_REPOSITORY, LOG, Machine, Step, plan

START_TIMEOUT_S = 60


def look(project: Project) -> Machine:
    """Return the state of this machine, without changing anything."""
    release = _os_release()
    answers, runtime, needs_base = _engine_state(project)
    installed = shutil.which("dockerd") is not None
    present = gpus.look()
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
        # One without a driver too: its toolkit is then there when the driver is.
        has_gpu=bool(present.gpus or present.on_bus or present.trouble),
        has_driver=bool(present.gpus),
        gpu_runtime=runtime,
        shielded=_is_shielded(),
    )


def _is_shielded() -> bool:
    can = os.geteuid() == 0 and shutil.which("iptables") is not None
    return not can or network.is_shielded()


def _engine_state(project: Project) -> tuple[bool, bool, bool]:
    """Return: an engine responds; it can give out GPUs; the base must be bootstrapped."""
    from samerun.host.image import base

    try:
        client = engine.connect()
    except SamerunError:
        return False, False, False
    facts = engine.inspect(client)
    # Hooks that an engine found only at its start don't count: it may need a restart.
    serves = "nvidia" in facts.runtimes or bool(facts.cdi_gpus) or facts.kind != "docker"
    return True, serves, not base.is_reachable(client, project)


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
    missing = gpu.without_driver(gpus.look())
    if missing:
        say(f"This machine has {missing}. {cuda.driver_remedy()}")
