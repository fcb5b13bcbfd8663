"""`invoke doctor`: one line per requirement of a run, with the command that fixes it."""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from samerun.core import hardware
from samerun.core.errors import SamerunError
from samerun.host.checkout.project import CUDA_VERSIONS, DEFAULT_CUDA, Project
from samerun.host.image import base
from samerun.host.machine import cuda, engine, gpus, network, same_machine
from samerun.host.setup import gpu, setup
from samerun.host.tracking import keys, server

if TYPE_CHECKING:
    from docker import DockerClient

# A build without a cache needs space for packages, layers and the unpacked image.
BUILD_BYTES = 25 * 10**9
LEAST_MEMORY_BYTES = 4 * 10**9
LEAST_KEY_CHARACTERS = 40


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """One line; *fix* is empty if nothing is wrong, an *optional* line is not a failure."""

    subject: str
    text: str
    fix: str = ""
    optional: bool = False


def examine(project: Project) -> Iterator[Diagnosis]:
    """Run all checks in order; a check that fails with an error gives a line too."""
    checks: tuple[Callable[[Project], Diagnosis], ...] = (
        _engine,
        _buildx,
        _store,
        _disk,
        _memory,
        _seccomp,
        _network,
        _gpu,
        _base,
        _image,
        _key,
        _wandb,
    )
    for check in checks:
        try:
            yield check(project)
        except SamerunError as error:
            yield Diagnosis(subject=check.__name__.strip("_"), text=error.what, fix=error.remedy)


def _engine(project: Project) -> Diagnosis:
    client = engine.connect()
    same_machine.check(client)
    facts = engine.inspect(client)
    return Diagnosis(subject="engine", text=f"Docker Engine {facts.version}, API {facts.api}")


def _buildx(project: Project) -> Diagnosis:
    version = engine.buildx_version()
    if version:
        return Diagnosis(subject="buildx", text=version)
    return Diagnosis(
        subject="buildx",
        text="not installed: builds use the BuildKit in the docker command",
        fix="sudo apt-get install docker-buildx-plugin (or docker-buildx)",
        optional=True,
    )


def _store(project: Project) -> Diagnosis:
    store = engine.inspect(engine.connect()).store
    if store == "containerd":
        return Diagnosis(subject="store", text="containerd: digests are known without a push")
    return Diagnosis(
        subject="store",
        text="classic: before a push, an image has only the config's digest",
        fix='echo \'{"features":{"containerd-snapshotter":true}}\' | sudo tee '
        "/etc/docker/daemon.json && sudo systemctl restart docker (images must be rebuilt)",
        optional=True,
    )


def _disk(project: Project) -> Diagnosis:
    root = Path(engine.inspect(engine.connect()).root)
    folder = next(p for p in (root, *root.parents) if p.exists())
    free = shutil.disk_usage(folder).free
    text = f"{free / 1e9:.0f} GB free under {folder}"
    if free >= BUILD_BYTES:
        return Diagnosis(subject="disk", text=text)
    return Diagnosis(
        subject="disk",
        text=f"{text}; the first build needs {BUILD_BYTES / 1e9:.0f} GB",
        fix="docker builder prune; docker image prune",
    )


def _memory(project: Project) -> Diagnosis:
    size = hardware.memory_bytes()
    fix = "Train with a smaller --batch-size, or on a machine with more memory."
    fix = "" if size >= LEAST_MEMORY_BYTES else fix
    return Diagnosis(subject="memory", text=f"{size / 1e9:.0f} GB", fix=fix)


def _seccomp(project: Project) -> Diagnosis:
    options = engine.connect().info().get("SecurityOptions") or []
    if any("name=seccomp" in option and "unconfined" not in option for option in options):
        return Diagnosis(subject="seccomp", text="system calls of runs are filtered")
    return Diagnosis(
        subject="seccomp",
        text="the engine does not filter system calls",
        fix='remove "seccomp-profile" from /etc/docker/daemon.json, then restart Docker',
    )


def _network(project: Project) -> Diagnosis:
    if not network.separates():
        return Diagnosis(
            subject="network",
            text="runs with network access can reach each other",
            fix="sudo modprobe br_netfilter",
            optional=True,
        )
    if os.geteuid() != 0:
        return Diagnosis(
            subject="network",
            text="runs can't reach each other; only root can check whether they reach this machine",
            optional=True,
        )
    if network.is_shielded():
        return Diagnosis(subject="network", text="runs can't reach each other or this machine")
    return Diagnosis(
        subject="network",
        text="runs with network access can reach this machine's services",
        fix="sudo invoke setup",
        optional=True,
    )


def _gpu(project: Project) -> Diagnosis:
    present = gpus.look()
    if present.without_driver:
        fix = cuda.driver_remedy()
        return Diagnosis(subject="gpu", text=gpu.without_driver(present), fix=fix)
    if not present.gpus and not present.trouble:
        return Diagnosis(subject="gpu", text="none: training uses the CPU", optional=True)
    gpus.select(None, present)  # Raises what can be found wrong without an engine.
    client = engine.connect()
    release = _built_cuda(client, project)
    notes = gpu.check(
        client, present, project.tag(release) if release else None, release or DEFAULT_CUDA
    )
    text = f"{gpu.describe(present)}. {notes}" if notes else gpu.describe(present)
    return Diagnosis(subject="gpu", text=text)


def _base(project: Project) -> Diagnosis:
    if base.is_reachable(engine.connect(), project):
        return Diagnosis(subject="base", text="available locally or from its registry")
    has_tool = shutil.which("mmdebstrap") is not None
    return Diagnosis(
        subject="base",
        text="its registry does not respond; it will be bootstrapped from Debian packages",
        fix="" if has_tool else "sudo apt-get install mmdebstrap",
        optional=has_tool,
    )


def _image(project: Project) -> Diagnosis:
    client = engine.connect()
    cuda = _built_cuda(client, project)
    if cuda is None:
        return Diagnosis(subject="image", text="not built yet", fix="invoke build", optional=True)
    raw = client.api.inspect_image(project.tag(cuda))
    return Diagnosis(subject="image", text=f"{project.tag(cuda)} {raw['Id'][:19]}…")


def _built_cuda(client: "DockerClient", project: Project) -> str | None:
    """Return the newest CUDA release for which the image is on this machine."""
    return next((cuda for cuda in CUDA_VERSIONS if base.has(client, project.tag(cuda))), None)


def _key(project: Project) -> Diagnosis:
    key = keys.find()
    if key is None:
        return Diagnosis(
            subject="key",
            text="no W&B key: runs are recorded offline",
            fix="export WANDB_API_KEY=… or write ~/.netrc (`wandb login`)",
            optional=True,
        )
    if len(key.value) < LEAST_KEY_CHARACTERS:
        return Diagnosis(
            subject="key",
            text=f"the key from {key.source} has {len(key.value)} characters, at least 40 expected",
            fix="Copy it again from your W&B settings page.",
        )
    return Diagnosis(subject="key", text=f"found in {key.source}")


def _wandb(project: Project) -> Diagnosis:
    url = server.base_url()
    if setup.reaches(url):
        return Diagnosis(subject="wandb", text=f"{url} responds")
    return Diagnosis(
        subject="wandb",
        text=f"{url} does not respond: runs are recorded offline",
        fix="Check the network, the proxy and WANDB_BASE_URL; upload later with `invoke sync RUN`.",
        optional=True,
    )


def line(finding: Diagnosis) -> str:
    """Return the line to print."""
    mark = "ok   " if not finding.fix else ("note " if finding.optional else "WRONG")
    text = f"{mark}  {finding.subject:<7} {finding.text}"
    return f"{text}\n                → {finding.fix}" if finding.fix else text
