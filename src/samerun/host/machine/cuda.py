"""Whether a machine's NVIDIA driver and GPUs support an image's CUDA release."""

import re
from collections.abc import Sequence

from samerun.core.errors import CudaUnsupported, NoGpu
from samerun.core.nvidia_smi import WSL_PATH, Gpu

# https://docs.nvidia.com/deploy/cuda-compatibility: minor-version compatibility.
LEAST_DRIVER = {"12": (525, 60), "13": (580, 65)}
# The oldest compute capability for which the locked torch of each release has code.
OLDEST = {"12": (7, 0), "13": (7, 5)}
KEPT = "The run keeps its image: use a machine with a GPU that it supports."
GUIDE = "https://docs.nvidia.com/datacenter/tesla/driver-installation-guide"


def check_support(
    gpus: Sequence[Gpu], cuda: str, architectures: Sequence[str], *, is_fixed: bool = False
) -> None:
    """
    Refuse a driver or a GPU that the image's torch does not support.

    *cuda* is the major release, *architectures* are torch's (``sm_90``). *is_fixed*: the image
    is that of a record, so another one is no remedy.

    Raises:
        NoGpu: The image is the CPU-only one.
        CudaUnsupported: The driver or the GPU is not supported.
    """
    if gpus and cuda == "none":
        raise NoGpu(
            "The image's torch has no CUDA support.",
            "Train with --gpus 0, or in an image built with --cuda 12 or 13.",
        )
    for gpu in gpus:
        # First, because a newer driver is no remedy for a GPU that is too old.
        if gpu.capability and architectures and not serves(gpu.capability, architectures):
            raise CudaUnsupported(
                f"{gpu.name} has compute capability {gpu.capability}; the image's torch "
                f"supports {', '.join(architectures)}.",
                KEPT if is_fixed else _other_image(gpu.capability, cuda, architectures),
            )
        _check_driver(gpu, cuda, is_fixed=is_fixed)


def _other_image(capability: str, cuda: str, architectures: Sequence[str]) -> str:
    """Return the remedy for a GPU that the image of the release *cuda* does not support."""
    other = "12" if cuda == "13" else "13"
    if _serves_other(capability, architectures, other):
        return f"Build for the other CUDA release: `invoke build --cuda {other}`."
    oldest = ".".join(map(str, min(OLDEST.values())))
    return f"samerun's images support GPUs from {oldest} on; train with --gpus 0."


def _serves_other(capability: str, architectures: Sequence[str], other: str) -> bool:
    """Whether the image of the *other* release may have code for an unsupported GPU."""
    version = _version(capability)
    newest = max((_built(entry) for entry in architectures), default=(0, 0))
    # Only the newer release can have code for a GPU that is newer than all of these.
    return version >= OLDEST[other] and (version < newest or other == "13")


def _check_driver(gpu: Gpu, cuda: str, *, is_fixed: bool) -> None:
    least = LEAST_DRIVER.get(cuda)
    version = tuple(int(n) for n in re.findall(r"[0-9]+", gpu.driver)[:2])
    if least is None or version >= least:
        return
    required = ".".join(map(str, least))
    older = LEAST_DRIVER["12"]
    way, remedy = "", driver_remedy()
    if version >= older and not is_fixed:
        way = "Use `invoke build --cuda 12` and `invoke train --cuda 12`. Or "
        remedy = remedy[0].lower() + remedy[1:]
    raise CudaUnsupported(
        f"The NVIDIA driver {gpu.driver} is too old for CUDA {cuda}, which needs {required}.",
        f"{way}{remedy}",
    )


def driver_remedy() -> str:
    """Return how to install a driver that all images support."""
    if WSL_PATH.is_file():
        return "Install NVIDIA's current driver in Windows, then run `wsl --shutdown` there."
    return (
        "Install driver 580 or later, then restart the machine. On Ubuntu: "
        "`sudo ubuntu-drivers install --gpgpu nvidia:580-server && "
        f"sudo apt-get install nvidia-utils-580-server`; elsewhere: {GUIDE}"
    )


def serves(capability: str, architectures: Sequence[str]) -> bool:
    """
    Whether code for *architectures* runs on a GPU of *capability* (``8.6``).

    Binary code runs on the same major capability with an equal or later minor; PTX
    (``compute_90``) runs on every later capability (CUDA C Programming Guide, 3.1).
    """
    major, minor = _version(capability)
    for entry in architectures:
        kind, built = entry.partition("_")[0], _built(entry)
        if kind == "compute" and built <= (major, minor):
            return True
        if kind == "sm" and built[0] == major and built[1] <= minor:
            return True
    return False


def _version(capability: str) -> tuple[int, int]:
    major, minor = (int(n) for n in capability.split("."))
    return major, minor


def _built(entry: str) -> tuple[int, int]:
    """Return the capability of ``sm_90a``; (0, 0) for an entry without a number."""
    digits = re.sub(r"[^0-9]", "", entry.partition("_")[2])
    return (int(digits[:-1]), int(digits[-1])) if len(digits) > 1 else (0, 0)
