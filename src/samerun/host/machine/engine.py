"""The Docker Engine: connect to it, and query its features."""

import functools
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from samerun.core.errors import EngineMissing, EnginePermission, EngineTooOld

if TYPE_CHECKING:
    from docker import DockerClient

# Engine 20.10: the first with a BuildKit that mounts secrets and caches without a frontend.
MINIMUM_API = (1, 41)
CONTAINERD_STORE = "io.containerd.snapshotter.v1"


@dataclass(frozen=True, kw_only=True)
class Engine:
    """Version and features of an engine."""

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
    Return a client of the engine at DOCKER_HOST or the default socket.

    Raises:
        EngineMissing: No engine responds.
        EnginePermission: This user may not use the socket.
        EngineTooOld: The engine is older than 20.10.
    """
    # Imported late, because `invoke --list` and `--dry` need no engine.
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
            f"Docker Engine {version} (API {api}) is too old: 20.10 (API 1.41) is required.",
            "Update it, or remove it and run `invoke setup`.",
        )
    return client


def _explain(error: Exception) -> EngineMissing | EnginePermission:
    text = str(error)
    if "Permission denied" in text or "PermissionError" in text:
        return EnginePermission(
            "This user may not use the Docker Engine's socket.",
            "Add yourself to its group (`sudo usermod -aG docker $USER`, then log in again).",
        )
    return EngineMissing(
        f"No Docker Engine responds ({text.rsplit('(', maxsplit=1)[-1].strip(')')}).",
        "Run `invoke setup`, which installs and starts one, or set DOCKER_HOST.",
    )


def inspect(client: "DockerClient") -> Engine:
    """Return the version and features of the engine."""
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
    """Return the version of the CLI's buildx plugin, None if it is not installed."""
    if shutil.which("docker") is None:
        return None
    command = ["docker", "buildx", "version"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    words = answer.stdout.split()
    return words[1] if answer.returncode == 0 and len(words) > 1 else None


def require_cli() -> None:
    """Raise EngineMissing if the `docker` command, needed for builds and runs, is missing."""
    if shutil.which("docker") is None:
        raise EngineMissing("The `docker` command is not installed.", "Run `invoke setup`.")
