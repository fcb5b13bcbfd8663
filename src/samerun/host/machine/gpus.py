"""GPUs: select the requested ones, and check that the image's CUDA supports them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from samerun.core.errors import DriverTooOld, NoGpu, UsageError
from samerun.core.hardware import Gpu

# https://docs.nvidia.com/deploy/cuda-compatibility: minor-version compatibility.
LEAST_DRIVER = {"12": (525, 60), "13": (580, 65)}


@dataclass(frozen=True, kw_only=True)
class Selection:
    """GPUs for a run: *flag* is Docker's ``--gpus``, None for the CPU."""

    asked: str
    flag: str | None
    gpus: tuple[Gpu, ...]


CPU = Selection(asked="0", flag=None, gpus=())


def select(request: str | None, present: Sequence[Gpu], *, runtime: bool) -> Selection:
    """
    Return the GPUs for *request*: None (all, or the CPU), ``0``, a count, ``all``, ``device=0,1``.

    Only None may select the CPU instead; missing requested GPUs are an error.

    Raises:
        NoGpu: There are fewer than requested, or the engine has no NVIDIA runtime.
        UsageError: *request* has another form.
    """
    if request == "0" or (request is None and not (present and runtime)):
        return CPU
    chosen = _choose(request or "all", present)
    if not chosen or len(chosen) > len(present):
        number = "no NVIDIA GPU" if not present else f"only {len(present)}"
        raise NoGpu(
            f"--gpus {request} was given, but this machine has {number}.",
            "Train on the CPU with --gpus 0 (and --procs N for several processes).",
        )
    if not runtime:
        raise NoGpu(
            "The engine has no NVIDIA runtime, so containers can't reach the GPUs.",
            "Run `invoke setup`, which installs the NVIDIA Container Toolkit, or pass --gpus 0.",
        )
    # Docker parses the value as CSV, so a list of devices needs literal quotes.
    indices = ",".join(str(gpu.index) for gpu in chosen)
    everything = len(chosen) == len(present)
    flag = "all" if everything else f'"device={indices}"'
    return Selection(asked=request or "all", flag=flag, gpus=tuple(chosen))


def _choose(request: str, present: Sequence[Gpu]) -> list[Gpu]:
    """Return the GPUs named by *request*; empty if one of them is missing."""
    if request == "all":
        return list(present)
    if request.isdecimal():
        return list(present[: int(request)]) if int(request) <= len(present) else []
    if not re.fullmatch(r"device=\d+(,\d+)*", request):
        raise UsageError(
            f"Invalid value for --gpus: {request!r}.", "Use a number, all, or device=0,1."
        )
    indices = [int(n) for n in request.removeprefix("device=").split(",")]
    chosen = [gpu for gpu in present if gpu.index in indices]
    return chosen if len(chosen) == len(set(indices)) else []


def check_support(gpus: Sequence[Gpu], cuda: str, architectures: Sequence[str]) -> None:
    """
    Refuse a driver or a GPU that the image's torch does not support.

    *cuda* is the major release, *architectures* are torch's (``sm_90``).

    Raises:
        NoGpu: The image is the CPU-only one.
        DriverTooOld: The driver or the GPU is not supported.
    """
    if gpus and cuda == "none":
        raise NoGpu(
            "The image's torch has no CUDA support.",
            "Train with --gpus 0, or in an image built with --cuda 12 or 13.",
        )
    for gpu in gpus:
        _check_driver(gpu, cuda)
        if architectures and not serves(gpu.capability, architectures):
            raise DriverTooOld(
                f"{gpu.name} has compute capability {gpu.capability}; the image's torch "
                f"supports {', '.join(architectures)}.",
                f"Build for the other CUDA release: `invoke build --cuda {_other(cuda)}`.",
            )


def _check_driver(gpu: Gpu, cuda: str) -> None:
    least = LEAST_DRIVER.get(cuda)
    version = tuple(int(n) for n in re.findall(r"\d+", gpu.driver)[:2])
    if least is None or version >= least:
        return
    required = ".".join(map(str, least))
    older = LEAST_DRIVER["12"]
    way = "`invoke build --cuda 12` and `invoke train --cuda 12`, or " if version >= older else ""
    raise DriverTooOld(
        f"The NVIDIA driver {gpu.driver} is too old for CUDA {cuda}, which needs {required}.",
        f"Use {way}a newer driver (`sudo apt install nvidia-driver`, then restart).",
    )


def serves(capability: str, architectures: Sequence[str]) -> bool:
    """
    Whether code for *architectures* runs on a GPU of *capability* (``8.6``).

    Binary code runs on the same major capability with an equal or later minor; PTX
    (``compute_90``) runs on every later capability (CUDA C Programming Guide, 3.1).
    """
    major, minor = (int(n) for n in capability.split("."))
    for entry in architectures:
        kind, _, number = entry.partition("_")
        digits = re.sub(r"\D", "", number)
        built = (int(digits[:-1]), int(digits[-1]))
        if kind == "compute" and built <= (major, minor):
            return True
        if kind == "sm" and built[0] == major and built[1] <= minor:
            return True
    return False


def _other(cuda: str) -> str:
    return "12" if cuda == "13" else "13"
