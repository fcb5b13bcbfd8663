"""The GPUs of a start: chosen again as a record has them, and checked against the image."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from samerun.core.errors import NoGpu
from samerun.core.record import Image, Run
from samerun.host.image import identity
from samerun.host.machine import cuda, gpus
from samerun.host.machine.engine import Engine
from samerun.host.machine.gpus import Present, Selection

if TYPE_CHECKING:
    from docker import DockerClient


def check(
    client: "DockerClient",
    chosen: Selection,
    image: Image,
    default: str = "",
    *,
    is_fixed: bool = False,
) -> None:
    """
    Refuse GPUs that *image* does not support, at every start: first, resumed, reproduced.

    *default* is the CUDA release of an image that does not say its own. *is_fixed*: the run
    can't have another image.

    Raises:
        NoGpu, CudaUnsupported: The image has no CUDA, or not for this driver or GPU.
    """
    if not chosen.gpus:
        return
    facts = identity.architectures(client, image.reference)
    release = image.cuda or _release(facts) or default
    known = facts.get("architectures") or ()
    cuda.check_support(chosen.gpus, release, known, is_fixed=is_fixed)


def _release(facts: dict[str, Any]) -> str:
    """Return the CUDA release in the image's description; empty if there is none."""
    if "cuda" not in facts:
        return ""
    return str(facts["cuda"]).partition(".")[0] if facts["cuda"] else "none"


def notes(chosen: Selection, procs: int) -> Iterator[str]:
    """Yield what the user should know about the GPUs before the start."""
    yield from chosen.notes
    unused = len(chosen.gpus) - procs
    if chosen.gpus and unused > 0:
        yield (
            f"{unused} of the {len(chosen.gpus)} GPUs have no process; "
            f"--gpus {procs} leaves them to others."
        )


def same_devices(run: Run, present: Present, engine: Engine) -> Selection:
    """
    Return the devices that *run* named, if this machine has them, else as many alike.

    Raises:
        NoGpu: There are fewer GPUs than the run had.
    """
    if run.topology.gpus.startswith("device="):
        try:
            return gpus.select(run.topology.gpus, present, engine=engine)
        except NoGpu:
            pass  # Another machine: what counts is their number and model.
    return as_many(run, run.hardware.gpus, present, engine)


def as_many(
    run: Run, models: Sequence[str], present: Present, engine: Engine, nodes: int = 1
) -> Selection:
    """
    Return as many GPUs as *nodes* machines of *run* had, which `all` may not be here.

    Raises:
        NoGpu: There are fewer GPUs than the run had.
    """
    asked = run.topology.gpus
    if asked == "0":
        return gpus.CPU
    number = len(models) or (int(asked) if asked.isdecimal() else run.topology.procs)
    count = str(number * nodes)
    try:
        return gpus.select(count, present, engine=engine, models=tuple(models) * nodes)
    except NoGpu as error:
        had = f"The run {run.name} had {count} GPU{'s' if count != '1' else ''}"
        what = error.what.removeprefix(f"--gpus {count} was given, but ")
        raise NoGpu(
            f"{had}: {what}",
            f"It keeps this number: use another machine. {_without_cpu(error.remedy)}".strip(),
        ) from error


def _without_cpu(remedy: str) -> str:
    """Return *remedy* without the way to the CPU, where a recorded run does not go."""
    return remedy.replace(gpus.CPU_REMEDY, "").replace(", or pass --gpus 0", "").strip()
