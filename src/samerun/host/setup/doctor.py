"""`invoke doctor`: one line per thing that a run needs, and the command that fixes it."""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from samerun.core import hardware
from samerun.core.errors import SamerunError
from samerun.host.checkout.project import CUDA_VERSIONS, Project, tag
from samerun.host.image import base, identity
from samerun.host.machine import engine, gpus, network
from samerun.host.setup import setup
from samerun.host.tracking import keys, server

if TYPE_CHECKING:
    from docker import DockerClient

# A cold build holds packages, layers and the unpacked image at once.
BUILD_BYTES = 25 * 10**9
LEAST_MEMORY_BYTES = 4 * 10**9
LEAST_KEY_CHARACTERS = 40


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """One line: *fix* is empty where all is well; *optional* lines are no failure."""

    subject: str
    text: str
    fix: str = ""
    optional: bool = False


def examine(project: Project) -> Iterator[Diagnosis]:
    """Look at everything in turn; a thing that can't be looked at is a finding too."""
    checks: tuple[Callable[[Project], Diagnosis], ...] = (
        _engine,
        _buildx,
        _store,
        _disk,
        _memory,
        _cage,
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
    facts = engine.inspect(engine.connect())
    return Diagnosis(subject="engine", text=f"Docker Engine {facts.version}, API {facts.api}")


def _buildx(project: Project) -> Diagnosis:
    version = engine.buildx_version()
    if version:
        return Diagnosis(subject="buildx", text=version)
    return Diagnosis(
        subject="buildx",
        text="absent: builds use the BuildKit of the docker command itself",
        fix="sudo apt-get install docker-buildx-plugin (or docker-buildx)",
        optional=True,
    )


def _store(project: Project) -> Diagnosis:
    store = engine.inspect(engine.connect()).store
    if store == "containerd":
        return Diagnosis(subject="store", text="containerd: digests are known without a push")
    return Diagnosis(
        subject="store",
        text="classic: before a push the identity is the config's digest only",
        fix='echo \'{"features":{"containerd-snapshotter":true}}\' | sudo tee '
        "/etc/docker/daemon.json && sudo systemctl restart docker (images are built again)",
        optional=True,
    )


def _disk(project: Project) -> Diagnosis:
    root = Path(engine.inspect(engine.connect()).root)
    place = next(p for p in (root, *root.parents) if p.exists())
    free = shutil.disk_usage(place).free
    text = f"{free / 1e9:.0f} GB free under {place}"
    if free >= BUILD_BYTES:
        return Diagnosis(subject="disk", text=text)
    return Diagnosis(
        subject="disk",
        text=f"{text}; a first build needs {BUILD_BYTES / 1e9:.0f}",
        fix="docker builder prune; docker image prune",
    )


def _memory(project: Project) -> Diagnosis:
    size = hardware.memory_bytes()
    fix = "" if size >= LEAST_MEMORY_BYTES else "Train with a smaller --batch-size, or elsewhere."
    return Diagnosis(subject="memory", text=f"{size / 1e9:.0f} GB", fix=fix)


def _cage(project: Project) -> Diagnosis:
    options = engine.connect().info().get("SecurityOptions") or []
    if any("name=seccomp" in option and "unconfined" not in option for option in options):
        return Diagnosis(subject="cage", text="seccomp filters the runs' system calls")
    return Diagnosis(
        subject="cage",
        text="the engine filters no system calls (seccomp)",
        fix='remove "seccomp-profile" from /etc/docker/daemon.json, then restart Docker',
    )


def _network(project: Project) -> Diagnosis:
    if not network.separates():
        return Diagnosis(
            subject="network",
            text="runs that have a network can reach each other",
            fix="sudo modprobe br_netfilter",
            optional=True,
        )
    if os.geteuid() != 0:
        return Diagnosis(
            subject="network",
            text="runs don't reach each other; whether they reach this machine only root can see",
            optional=True,
        )
    if network.is_shielded():
        return Diagnosis(subject="network", text="runs reach neither each other nor this machine")
    return Diagnosis(
        subject="network",
        text="runs that have a network can reach this machine's own services",
        fix="sudo invoke setup",
        optional=True,
    )


def _gpu(project: Project) -> Diagnosis:
    found = hardware.probe()
    if not found:
        return Diagnosis(subject="gpu", text="none: training uses the CPU", optional=True)
    names = ", ".join(f"{gpu.name} ({gpu.capability})" for gpu in found)
    client = engine.connect()
    gpus.select("all", found, runtime=engine.inspect(client).serves_gpus)
    built = _built(client)
    facts = identity.architectures(client, tag(built)) if built else {}
    gpus.check_support(found, built or "13", facts.get("architectures", ()))
    return Diagnosis(subject="gpu", text=f"{names}, driver {found[0].driver}")


def _base(project: Project) -> Diagnosis:
    if base.is_reachable(engine.connect(), project):
        return Diagnosis(subject="base", text="here, or its registry answers")
    has_tool = shutil.which("mmdebstrap") is not None
    return Diagnosis(
        subject="base",
        text="no registry answers; it will be bootstrapped from Debian's packages",
        fix="" if has_tool else "sudo apt-get install mmdebstrap",
        optional=has_tool,
    )


def _image(project: Project) -> Diagnosis:
    client = engine.connect()
    cuda = _built(client)
    if cuda is None:
        return Diagnosis(subject="image", text="not built yet", fix="invoke build", optional=True)
    raw = client.api.inspect_image(tag(cuda))
    return Diagnosis(subject="image", text=f"{tag(cuda)} {raw['Id'][:19]}…")


def _built(client: "DockerClient") -> str | None:
    """Return the CUDA release of the image that is here, the newest first."""
    return next((cuda for cuda in CUDA_VERSIONS if base.has(client, tag(cuda))), None)


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
            text=f"the key from {key.source} has {len(key.value)} characters; 40 is the least",
            fix="Copy it again from W&B's settings page.",
        )
    return Diagnosis(subject="key", text=f"found in {key.source}")


def _wandb(project: Project) -> Diagnosis:
    url = server.base_url()
    if setup.reaches(url):
        return Diagnosis(subject="wandb", text=f"{url} answers")
    return Diagnosis(
        subject="wandb",
        text=f"{url} does not answer: runs are recorded offline",
        fix="Check the network, a proxy or WANDB_BASE_URL; later `invoke sync RUN`.",
        optional=True,
    )


def line(finding: Diagnosis) -> str:
    """Return the finding as shown."""
    mark = "ok   " if not finding.fix else ("note " if finding.optional else "WRONG")
    text = f"{mark}  {finding.subject:<7} {finding.text}"
    return f"{text}\n                → {finding.fix}" if finding.fix else text
