"""The Docker Engine: find it, and know what it can do."""

import functools
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from samerun.core.errors import EngineMissing, EnginePermission, EngineTooOld

if TYPE_CHECKING:
    from docker import DockerClient

# Engine 20.10: the first whose BuildKit mounts secrets and caches without a pulled frontend.
MINIMUM_API = (1, 41)
CONTAINERD_STORE = "io.containerd.snapshotter.v1"


@dataclass(frozen=True, kw_only=True)
class Engine:
    """What an engine is and can."""

    version: str
    store: Literal["containerd", "classic"]
    runtimes: tuple[str, ...]
    root: str
    buildx: str | None
    api: str

    @property
    def serves_gpus(self) -> bool:
        """Whether NVIDIA's container runtime is registered."""
        return "nvidia" in self.runtimes


def connect() -> "DockerClient":
    """
    Return a client of the engine that DOCKER_HOST or the default socket names.

    Raises:
        EngineMissing: Nobody answers.
        EnginePermission: The socket is there but closed to this user.
        EngineTooOld: Older than 20.10.
    """
    # Imported late: `invoke --list` and `--dry` do without an engine.
    import docker
    from docker.errors import DockerException

    try:
        client = docker.from_env(timeout=600)
    except DockerException as error:
        raise _explain(error) from error
    api = str(client.version()["ApiVersion"])
    if tuple(int(n) for n in api.split(".")) < MINIMUM_API:
        version = client.version()["Version"]
        raise EngineTooOld(
            f"Docker Engine {version} (API {api}) is too old: 20.10 (API 1.41) is the least.",
            "Update it, or run `invoke setup` on a machine without one.",
        )
    return client


def _explain(error: Exception) -> EngineMissing | EnginePermission:
    text = str(error)
    if "Permission denied" in text or "PermissionError" in text:
        return EnginePermission(
            "The Docker Engine's socket is closed to this user.",
            "Add yourself to its group (`sudo usermod -aG docker $USER`, then log in again).",
        )
    return EngineMissing(
        f"No Docker Engine answers ({text.rsplit('(', maxsplit=1)[-1].strip(')')}).",
        "Run `invoke setup`, which installs and starts one, or set DOCKER_HOST.",
    )


def inspect(client: "DockerClient") -> Engine:
    """Ask the engine what it is."""
    info: dict[str, Any] = client.info()
    status = dict(info.get("DriverStatus") or [])
    is_containerd = status.get("driver-type") == CONTAINERD_STORE
    return Engine(
        version=info["ServerVersion"],
        api=str(client.version()["ApiVersion"]),
        store="containerd" if is_containerd else "classic",
        runtimes=tuple(sorted(info.get("Runtimes") or ())),
        root=info.get("DockerRootDir", "/var/lib/docker"),
        buildx=buildx_version(),
    )


@functools.cache
def buildx_version() -> str | None:
    """Return the version of the CLI's buildx plugin, None where there is none."""
    if shutil.which("docker") is None:
        return None
    command = ["docker", "buildx", "version"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    words = answer.stdout.split()
    return words[1] if answer.returncode == 0 and len(words) > 1 else None


def require_cli() -> None:
    """Raise EngineMissing where the `docker` command, which builds and starts, is absent."""
    if shutil.which("docker") is None:
        raise EngineMissing("The `docker` command is not installed.", "Run `invoke setup`.")
