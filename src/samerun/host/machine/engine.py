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
# CDI names devices like this; engines from 28.3 on list those that they found.
CDI_GPU = "nvidia.com/gpu="
# An engine before 29 gives out GPUs if it finds the first of these; from 29 on, either.
GPU_HOOKS = ("nvidia-container-runtime-hook", "nvidia-cdi-hook")


@dataclass(frozen=True, kw_only=True)
class Engine:
    """Version and features of an engine."""

    version: str
    store: Literal["containerd", "classic"]
    runtimes: tuple[str, ...]
    root: str
    buildx: str | None
    api: str
    # GPUs that the engine found in CDI specifications, without their prefix.
    cdi_gpus: tuple[str, ...] = ()
    # Programs of the NVIDIA Container Toolkit on this machine.
    gpu_hooks: tuple[str, ...] = ()
    kind: Literal["docker", "rootless", "podman"] = "docker"

    @property
    def serves_gpus(self) -> bool:
        """Whether containers may get GPUs: by NVIDIA's runtime, by its hooks, or by CDI."""
        return "nvidia" in self.runtimes or bool(self.gpu_hooks or self.cdi_gpus)


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
    return from_answers(client.info(), client.version())


def from_answers(info: dict[str, Any], version: dict[str, Any]) -> Engine:
    """Return what the engine's *info* and *version* say."""
    status = dict(info.get("DriverStatus") or [])
    is_containerd = status.get("driver-type") == CONTAINERD_STORE
    devices = (str(device.get("ID", "")) for device in info.get("DiscoveredDevices") or ())
    return Engine(
        version=info["ServerVersion"],
        api=str(version["ApiVersion"]),
        store="containerd" if is_containerd else "classic",
        runtimes=tuple(sorted(info.get("Runtimes") or ())),
        root=info.get("DockerRootDir", "/var/lib/docker"),
        buildx=buildx_version(),
        cdi_gpus=tuple(d.removeprefix(CDI_GPU) for d in devices if d.startswith(CDI_GPU)),
        gpu_hooks=tuple(name for name in GPU_HOOKS if shutil.which(name)),
        kind=_kind(info, version),
    )


def _kind(info: dict[str, Any], version: dict[str, Any]) -> Literal["docker", "rootless", "podman"]:
    names = (str(part.get("Name", "")) for part in version.get("Components") or ())
    if any("podman" in name.lower() for name in names):
        return "podman"
    options = info.get("SecurityOptions") or ()
    return "rootless" if any("name=rootless" in option for option in options) else "docker"


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
