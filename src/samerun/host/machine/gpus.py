"""GPUs: which there are, which were asked for, whether the image's CUDA serves them."""

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


def select(asked: str | None, found: Sequence[Gpu], *, runtime: bool) -> Selection:
    """
    Return the GPUs for *asked*: None (what there is), ``0``, a count, ``all``, ``device=0,1``.

    Only None may end on the CPU; what was asked for is found, or it is an error.

    Raises:
        NoGpu: Fewer than asked for, or the engine has no NVIDIA runtime.
        UsageError: *asked* is none of the forms.
    """
    if asked == "0" or (asked is None and not (found and runtime)):
        return CPU
    wanted = _wanted(asked or "all", found)
    if not wanted or len(wanted) > len(found):
        number = "no NVIDIA GPU" if not found else f"only {len(found)}"
        raise NoGpu(
            f"--gpus {asked} was asked for, but this machine has {number}.",
            "Train on the CPU with --gpus 0 (and --procs N for several processes).",
        )
    if not runtime:
        raise NoGpu(
            "The engine has no NVIDIA runtime, so containers can't reach the GPUs.",
            "Run `invoke setup`, which installs the NVIDIA container toolkit; or --gpus 0.",
        )
    # Docker reads the value as CSV: a list of devices needs literal quotes around it.
    indices = ",".join(str(gpu.index) for gpu in wanted)
    everything = len(wanted) == len(found)
    flag = "all" if everything else f'"device={indices}"'
    return Selection(asked=asked or "all", flag=flag, gpus=tuple(wanted))


def _wanted(asked: str, found: Sequence[Gpu]) -> list[Gpu]:
    """Return the GPUs that *asked* names; too few found means an empty list."""
    if asked == "all":
        return list(found)
    if asked.isdecimal():
        return list(found[: int(asked)]) if int(asked) <= len(found) else []
    if not re.fullmatch(r"device=\d+(,\d+)*", asked):
        raise UsageError(
            f"--gpus {asked!r} is not understood.", "Use a number, all, or device=0,1."
        )
    indices = [int(n) for n in asked.removeprefix("device=").split(",")]
    chosen = [gpu for gpu in found if gpu.index in indices]
    return chosen if len(chosen) == len(set(indices)) else []


def check_support(gpus: Sequence[Gpu], cuda: str, architectures: Sequence[str]) -> None:
    """
    Refuse a driver or a GPU that the image's torch can't use, before anything starts.

    *cuda* is the major release, *architectures* are torch's (``sm_90``).

    Raises:
        NoGpu: The image is the CPU-only one.
        DriverTooOld: With the driver's or the GPU's values and the way out.
    """
    if gpus and cuda == "none":
        raise NoGpu(
            "The image has torch without CUDA.", "Train with --gpus 0, or in another image."
        )
    for gpu in gpus:
        _check_driver(gpu, cuda)
        if architectures and not serves(gpu.capability, architectures):
            raise DriverTooOld(
                f"{gpu.name} has compute capability {gpu.capability}; the image's torch "
                f"serves {', '.join(architectures)}.",
                f"Build for the other CUDA release: `invoke build --cuda {_other(cuda)}`.",
            )


def _check_driver(gpu: Gpu, cuda: str) -> None:
    least = LEAST_DRIVER.get(cuda)
    have = tuple(int(n) for n in re.findall(r"\d+", gpu.driver)[:2])
    if least is None or have >= least:
        return
    needed = ".".join(map(str, least))
    older = LEAST_DRIVER["12"]
    way = "`invoke build --cuda 12`, `invoke train --cuda 12`, or " if have >= older else ""
    raise DriverTooOld(
        f"The NVIDIA driver {gpu.driver} is too old for CUDA {cuda}, which needs {needed}.",
        f"Use {way}a newer driver (`sudo apt install nvidia-driver`, then restart).",
    )


def serves(capability: str, architectures: Sequence[str]) -> bool:
    """
    Whether code for *architectures* runs on a GPU of *capability* (``8.6``).

    Binary code runs within a major release on equal or later minors; PTX
    (``compute_90``) runs on everything later (CUDA C Programming Guide, 3.1).
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
