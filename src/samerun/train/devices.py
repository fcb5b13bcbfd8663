"""
The devices that this process computes on: exactly those that were asked for, or an error.

``SAMERUN_GPUS`` is the number of GPUs asked for on this machine. Before any data is read, each
process initializes CUDA and runs a kernel on its own GPUs: a driver that does not work in the
container shows only there, and torch would silently compute on the CPU. Without the variable
(a container started by hand) nothing is checked, and the record says what was used.
"""

import os
import subprocess
import sys
from pathlib import Path

from samerun.core import contract
from samerun.core.errors import NoGpu
from samerun.train.report import diagnosis

DEVICES = Path("/dev")


def requested() -> int | None:
    """
    Return the number of GPUs asked for on this machine; None if nothing is known.

    Raises:
        NoGpu: The variable is not a number.
    """
    text = os.environ.get(contract.ENV_GPUS, "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit()):
        raise NoGpu(f"{contract.ENV_GPUS} is {text!r}.", "Set it to a number, or unset it.")
    return int(text)


def hide_if_none_requested() -> None:
    """Hide GPUs from a training for the CPU; must come before CUDA is initialized."""
    if requested() == 0:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def choose() -> None:
    """
    Check the requested GPUs, and make one of them this process's default device.

    Raises:
        NoGpu, CudaUnsupported: CUDA does not work as requested.
    """
    import torch

    number, rank, processes = requested(), _local("RANK", 0), _local("WORLD_SIZE", 1)
    if number:
        check(number, range(rank, number, processes))
    if not torch.cuda.is_available():
        if number is None and rank == 0 and any(DEVICES.glob("nvidia[0-9]*")):
            _say_why_unused()
        # Otherwise accelerate finds no device, and the ranks silently train separate models.
        os.environ.setdefault("ACCELERATE_USE_CPU", "true")
        return
    if torch.cuda.device_count() < processes:
        raise _too_few(processes, torch.cuda.device_count(), f"{processes} processes need")
    # Else NCCL's watchdog ends the process with SIGABRT before Python can report the error.
    os.environ.setdefault("TORCH_NCCL_RETHROW_CUDA_ERRORS", "0")
    if "LOCAL_RANK" in os.environ:
        # Before the script makes data loaders on the default device.
        torch.cuda.set_device(rank)


def check(number: int, indices: range) -> None:
    """
    Check that CUDA has *number* GPUs, and computes on those with *indices*.

    Raises:
        NoGpu, CudaUnsupported: The message has torch's reason.
    """
    import torch

    try:
        torch.cuda.init()
        found = torch.cuda.device_count()
        for index in indices:
            if index < found:
                torch.ones(1, device=f"cuda:{index}").add_(1).item()
    # torch raises RuntimeError, AssertionError (no CUDA in this build) and its own classes.
    except Exception as error:
        raise diagnosis.of_unusable_gpu(error) from error
    if found < number:
        raise _too_few(number, found, f"{contract.ENV_GPUS}={number} asks for")


def work() -> bool:
    """
    Whether the requested GPUs work, found out in another process.

    For the first process of a standalone container, which must not load a framework.
    """
    if not requested():
        return True
    line = [sys.executable, "-P", "-m", __name__]
    return subprocess.run(line, capture_output=True, check=False).returncode == 0


def used() -> range:
    """Return torch's indices of the GPUs of this machine's processes."""
    import torch

    found, number = torch.cuda.device_count(), requested()
    return range(found if number is None else min(found, number))


def _say_why_unused() -> None:
    """Print why the GPUs of a container started by hand are not used."""
    import torch

    try:
        torch.cuda.init()
    except Exception as error:  # noqa: BLE001 - as in `check`
        reason = diagnosis.first_line(error)
        sys.stderr.write(
            "samerun: training on the CPU, although this container has GPUs, because CUDA does not "
            f"work: {reason} (with {contract.ENV_GPUS} set to the number of GPUs, it is an error)\n"
        )


def _local(name: str, otherwise: int) -> int:
    return int(os.environ.get(f"LOCAL_{name}", otherwise))


def _too_few(wanted: int, found: int, who: str) -> NoGpu:
    number = f"only {found}" if found else "none"
    return NoGpu(
        f"{who} {wanted} GPU{'s' if wanted > 1 else ''}, but CUDA finds {number} in the container.",
        "Run at most one process per GPU (--procs). Of MIG instances, CUDA uses one per process. "
        "`nvidia-smi -L` in the container lists what is there.",
    )


if __name__ == "__main__":
    total = requested() or 0
    check(total, range(total))
