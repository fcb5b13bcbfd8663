"""GPUs: what this machine has, and which of them a run gets."""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from samerun.core import nvidia_smi
from samerun.core.errors import NoGpu, UsageError
from samerun.core.nvidia_smi import WSL_PATH, Gpu
from samerun.host.machine import cuda, pci, visible
from samerun.host.machine.engine import Engine

# The driver's list of this machine's GPUs; a scheduler's cgroup does not shorten it.
DRIVER_GPUS = Path("/proc/driver/nvidia/gpus")
FORM = re.compile(r"0|[1-9][0-9]{0,3}|all|device=[0-9A-Za-z/-]+(?:,[0-9A-Za-z/-]+)*")
# A card with a desktop and no training uses less.
BUSY_MIB = 1024
CPU_REMEDY = "Train on the CPU with --gpus 0 (and --procs N for several processes)."
ENGINE_REMEDIES = {
    "docker": "Run `invoke setup`, which installs the NVIDIA Container Toolkit, or pass --gpus 0.",
    "rootless": "samerun supports no rootless engine: use one that runs as root, or --gpus 0.",
    "podman": "samerun supports Docker Engine, not Podman: use that, or pass --gpus 0.",
}


@dataclass(frozen=True, kw_only=True)
class Present:
    """The GPUs of this machine, and what limits their use."""

    gpus: tuple[Gpu, ...] = ()
    # What nvidia-smi says besides, and whether GPUs may be missing from its list.
    trouble: str = ""
    is_failure: bool = False
    # CUDA_VISIBLE_DEVICES, as schedulers set it; None: not set.
    visible: str | None = None
    # GPUs on the PCI bus, and those that the driver knows.
    on_bus: int = 0
    known: int = 0
    wsl: bool = False

    @property
    def without_driver(self) -> bool:
        """Whether there is an NVIDIA GPU, but no driver."""
        return bool(self.on_bus) and not self.gpus and not self.trouble


@dataclass(frozen=True, kw_only=True)
class Selection:
    """GPUs for a run: *flag* is Docker's ``--gpus``, None for the CPU."""

    asked: str
    flag: str | None
    gpus: tuple[Gpu, ...]
    # CUDA_VISIBLE_DEVICES in the container, if its own order is another one.
    order: str = ""
    # What the user should know before the run, in sentences.
    notes: tuple[str, ...] = ()

    def variables(self) -> dict[str, str]:
        """Return the container's variables for these GPUs."""
        return {visible.NAME: self.order} if self.order else {}


CPU = Selection(asked="0", flag=None, gpus=())


def look() -> Present:
    """Return what this machine has; the only place that looks."""
    found = nvidia_smi.query()
    return Present(
        gpus=found.gpus,
        trouble=found.trouble,
        is_failure=found.is_failure,
        visible=os.environ.get(visible.NAME),
        on_bus=pci.nvidia_gpus(),
        known=len(list(DRIVER_GPUS.glob("*"))),
        wsl=WSL_PATH.is_file(),
    )


def select(
    request: str | None,
    present: Present,
    *,
    engine: Engine | None = None,
    models: Sequence[str] = (),
) -> Selection:
    """
    Return the GPUs for *request*: None (all, or the CPU), ``0``, a count, ``all``, ``device=…``.

    Only None may select the CPU instead, and only if no GPU was meant to be there. A count
    prefers *models* (labels of a record, in their order) and GPUs that nobody uses. *engine*
    is None before it was asked.

    Raises:
        NoGpu: There are fewer than requested, nvidia-smi fails, or containers can't have them.
        UsageError: *request* has another form.
    """
    if request is not None and not FORM.fullmatch(request):
        raise UsageError(
            f"Invalid value for --gpus: {request!r}.",
            "Use a number, all, device=0,1, or device=UUID as `nvidia-smi -L` prints it.",
        )
    if request == "0":
        return CPU
    if present.is_failure and (request in (None, "all") or not present.gpus):
        raise _failing(request, present)
    usable = visible.limit(present.gpus, present.visible)
    if request is None and not usable:
        return Selection(asked="0", flag=None, gpus=(), notes=tuple(_why_cpu(present)))
    chosen = _choose(request, usable, present, models)
    if engine is not None and not engine.serves_gpus:
        raise NoGpu(
            "The engine has neither NVIDIA's runtime nor CDI devices, so containers can't use "
            "the GPUs.",
            ENGINE_REMEDIES[engine.kind],
        )
    return Selection(
        asked=request or "all",
        flag=_flag(chosen, present, engine),
        gpus=chosen,
        order=_order(chosen),
        notes=tuple(_notes(chosen, present)),
    )


def check_processes(selection: Selection, procs: int) -> None:
    """
    Refuse more processes than GPUs: each needs its own.

    Raises:
        UsageError: There are more.
    """
    number = len(selection.gpus)
    if number and procs > number:
        raise UsageError(
            f"{procs} processes need {procs} GPUs, one each, but the run has {number}.",
            f"Use --procs {number} or --gpus {procs}; or --gpus 0 for processes on the CPU.",
        )


def _failing(request: str | None, present: Present) -> NoGpu:
    has = f" It lists {len(present.gpus)} without a problem." if present.gpus else ""
    asked = f"--gpus {request} was given, but " if request else ""
    way = "Use those with --gpus N, or the CPU with --gpus 0." if present.gpus else CPU_REMEDY
    return NoGpu(
        f"{asked}nvidia-smi fails on this machine: {present.trouble}.{has}".replace("..", "."),
        f"Run `nvidia-smi`; after an update of the driver, restart the machine. {way}",
    )


def _why_cpu(present: Present) -> Iterator[str]:
    if present.gpus:
        yield f"{visible.NAME}={present.visible} hides all GPUs, so this run uses the CPU."
    elif present.without_driver:
        yield (
            "This machine has an NVIDIA GPU but no driver, so this run uses the CPU; "
            "`invoke doctor` says what to install."
        )


def _choose(
    request: str | None, usable: Sequence[Gpu], present: Present, models: Sequence[str]
) -> tuple[Gpu, ...]:
    """Return the GPUs for *request*, in the order in which processes get them."""
    named = re.fullmatch(r"device=(.+)", request or "")
    if named:
        chosen = tuple(_named(named[1].split(","), usable, present))
    else:
        whole = [gpu for gpu in usable if not gpu.mig]
        instances = [gpu for gpu in usable if gpu.mig and not gpu.is_undivided]
        pool = whole if request is None and whole else [*whole, *instances]
        number = _number(request, pool)
        chosen = _preferred(pool, number, models) if number <= len(pool) else ()
    if not chosen:
        raise _too_few(request, usable, present)
    if len(chosen) > 1 and any(gpu.mig for gpu in chosen):
        raise NoGpu(
            f"--gpus {request or 'all'} would join MIG instances: a process of CUDA uses one "
            "instance, and NCCL joins none.",
            f"Choose one: {_listed(gpu for gpu in usable if gpu.mig)}.",
        )
    return chosen


def _number(request: str | None, pool: Sequence[Gpu]) -> int:
    """Return how many of *pool* are wanted; by default one MIG instance, or all GPUs."""
    if request is None and all(gpu.mig for gpu in pool):
        return 1
    return len(pool) if request in (None, "all") else int(request or 0)


def _named(names: Sequence[str], usable: Sequence[Gpu], present: Present) -> Iterator[Gpu]:
    """Yield the GPUs *names*, indices or UUIDs, in this order."""
    taken: list[Gpu] = []
    for name in names:
        matches = visible.matching(name, usable)
        if not matches and visible.matching(name, present.gpus):
            raise NoGpu(
                f"GPU {name} is not among those in {visible.NAME}={present.visible}.",
                "Choose one of these, or unset the variable.",
            )
        if not matches or matches[0].is_undivided:
            raise _too_few(f"device={','.join(names)}", usable, present)
        if len(matches) > 1:
            raise UsageError(
                f"device={name} may be each of {len(matches)} devices.",
                f"Choose one: {_listed(matches)}.",
            )
        if matches[0] in taken:
            raise UsageError(f"--gpus names GPU {name} twice.", "Name each GPU once.")
        taken.append(matches[0])
        yield matches[0]


def _listed(gpus: Iterator[Gpu] | Sequence[Gpu]) -> str:
    return ", ".join(f"--gpus device={gpu.uuid or gpu.index} ({gpu.name})" for gpu in gpus)


def _preferred(pool: Sequence[Gpu], number: int, models: Sequence[str]) -> tuple[Gpu, ...]:
    """Return *number* GPUs: first the recorded models in their order, then those not in use."""
    # MIG instances last, because several can't train together.
    left = sorted(pool, key=lambda gpu: (gpu.mig, is_busy(gpu)))
    recorded: list[Gpu] = []
    for model in models[:number]:
        same = next((gpu for gpu in left if model in (gpu.label, gpu.name)), None)
        if same is not None:
            left.remove(same)
            recorded.append(same)
    others = left[: number - len(recorded)]
    return (*recorded, *(gpu for gpu in pool if gpu in others))


def _too_few(request: str | None, usable: Sequence[Gpu], present: Present) -> NoGpu:
    undivided = [gpu for gpu in usable if gpu.is_undivided]
    if undivided:
        index = undivided[0].index
        return NoGpu(
            f"GPU {index} ({undivided[0].name}) is in MIG mode and has no instance.",
            f"Create one (`sudo nvidia-smi mig -i {index} -cgi 0 -C`), turn MIG off "
            f"(`sudo nvidia-smi -i {index} -mig 0`), or train on the CPU with --gpus 0.",
        )
    number = f"only {len(usable)}" if usable else "no NVIDIA GPU"
    what = f"--gpus {request} was given, but this machine has {number}"
    if len(usable) < len(present.gpus):
        what += f" in {visible.NAME}={present.visible}"
    if present.without_driver:
        return NoGpu(
            f"{what} with a driver ({present.on_bus} without).",
            f"{cuda.driver_remedy()}\n{CPU_REMEDY}",
        )
    said = f" nvidia-smi says: {present.trouble}." if present.trouble else ""
    return NoGpu(f"{what}.{said}", CPU_REMEDY)


def _flag(chosen: Sequence[Gpu], present: Present, engine: Engine | None) -> str:
    """Return Docker's ``--gpus`` for *chosen*."""
    # A scheduler's cgroup hides GPUs from nvidia-smi, but not from the engine.
    everything = len(chosen) == max(len(present.gpus), present.known)
    if everything and not any(gpu.mig for gpu in chosen):
        return "all"
    if present.wsl:
        raise NoGpu(
            f"In WSL2 a container gets all GPUs or none, not {len(chosen)} of {len(present.gpus)}.",
            "Use --gpus all, or the CPU with --gpus 0.",
        )
    # Docker parses the value as CSV, so a list of devices needs literal quotes.
    return f'"device={",".join(_device(gpu, engine) for gpu in chosen)}"'


def _device(gpu: Gpu, engine: Engine | None) -> str:
    """Return the name of *gpu* for the engine: its UUID, which no scheduler renumbers."""
    names = engine.cdi_gpus if engine is not None else ()
    if gpu.uuid and not (str(gpu.index) in names and gpu.uuid not in names and not gpu.mig):
        return gpu.uuid
    return str(gpu.index)


def _order(chosen: Sequence[Gpu]) -> str:
    """Return the UUIDs if CUDA would number *chosen* otherwise: by speed, then by bus."""
    indices = [gpu.index for gpu in chosen]
    alike = len({gpu.name for gpu in chosen}) <= 1
    if (indices == sorted(indices) and alike) or not all(gpu.uuid for gpu in chosen):
        return ""
    return ",".join(gpu.uuid for gpu in chosen)


def is_busy(gpu: Gpu) -> bool:
    """Whether something else seems to train on *gpu*."""
    return (gpu.used_mib or 0) >= BUSY_MIB


def _notes(chosen: Sequence[Gpu], present: Present) -> Iterator[str]:
    if present.trouble:
        yield f"nvidia-smi says: {present.trouble}"
    if present.visible is not None and len(chosen) < len(present.gpus):
        yield f"{visible.NAME}={present.visible} limits the choice of GPUs."
    for gpu in present.gpus:
        if gpu.is_undivided:
            yield f"GPU {gpu.index} ({gpu.name}) is in MIG mode, has no instance and is not used."
    for gpu in filter(is_busy, chosen):
        total = f" of {gpu.memory_mib / 1024:.1f}" if gpu.memory_mib else ""
        yield (
            f"GPU {gpu.index} ({gpu.name}) is in use by other processes, with "
            f"{(gpu.used_mib or 0) / 1024:.1f}{total} GiB of its memory."
        )
    if any(gpu.mig for gpu in chosen):
        yield f"This run uses the MIG instance {chosen[0].uuid} ({chosen[0].name})."
    names = sorted({gpu.name for gpu in chosen})
    if len(names) > 1:
        yield f"The GPUs differ ({', '.join(names)}): each step waits for the slowest."
