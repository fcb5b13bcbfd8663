"""CUDA_VISIBLE_DEVICES, by which schedulers and users limit a job to some GPUs."""

import re
from collections.abc import Sequence

from samerun.core.errors import NoGpu
from samerun.core.nvidia_smi import Gpu

NAME = "CUDA_VISIBLE_DEVICES"
# An empty value hides all GPUs; Slurm writes this word for a job without GPUs.
NO_DEVICES = "NoDevFiles"


def limit(gpus: Sequence[Gpu], value: str | None) -> tuple[Gpu, ...]:
    """
    Return the *gpus* that *value* names, in its order; all of them if it is not set.

    As in CUDA, -1 hides itself and all that follow. Indices are those of nvidia-smi.

    Raises:
        NoGpu: It names a GPU that this machine does not have.
    """
    if value is None:
        return tuple(gpus)
    named: list[Gpu] = []
    for entry in (part.strip() for part in value.split(",")):
        if entry in ("", "-1", NO_DEVICES):
            break
        matches = matching(entry, gpus)
        several = len(matches) > 1 and not entry.isdecimal()
        # On a machine without GPUs, there is nothing to limit.
        if gpus and (several or not matches):
            why = "is the start of several UUIDs" if several else "nvidia-smi does not list"
            raise NoGpu(
                f"{NAME}={value} names {entry}, which {why}.",
                f"Correct or unset {NAME}, or train on the CPU with --gpus 0.",
            )
        named += [gpu for gpu in matches if gpu not in named]
    return tuple(named)


def matching(name: str, gpus: Sequence[Gpu]) -> list[Gpu]:
    """Return the *gpus* with this index (several MIG instances have one), or this UUID."""
    if re.fullmatch(r"[0-9]{1,4}", name):
        return [gpu for gpu in gpus if gpu.index == int(name)]
    if not name.startswith(("GPU-", "MIG-")):
        return []
    # CUDA accepts the beginning of a UUID, if it is the only one.
    exact = [gpu for gpu in gpus if gpu.uuid.lower() == name.lower()]
    return exact or [gpu for gpu in gpus if gpu.uuid.lower().startswith(name.lower())]
