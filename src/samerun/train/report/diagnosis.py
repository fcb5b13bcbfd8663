"""
What an error of CUDA, NCCL or the operating system means: kind, exit code, remedy.

The texts are those of torch, CUDA, cuBLAS, cuDNN and NCCL, because their exceptions have few
classes.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from samerun.core import first_failure
from samerun.core.errors import (
    CommunicationFailed,
    CudaUnsupported,
    GpuFailed,
    NoGpu,
    OutOfMemory,
    SamerunError,
    SharedMemoryFull,
)
from samerun.train.report import reporting

# What CUDA appends to each message, on further lines.
ADVICE = re.compile(
    r"\n\s*(Search for `|CUDA kernel errors might|For debugging consider|Compile with `|"
    r"Device-side assertion tracking)"
)


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """
    A kind of error: texts (a regular expression), the error's class, and what to do.

    Without a class, the exit code is Python's own.
    """

    kind: str
    texts: str
    error: type[SamerunError] | None
    remedy: str

    @property
    def exit_code(self) -> int:
        """The exit code of a training that ends with it."""
        return self.error.exit_code if self.error else 1

    def matches(self, text: str) -> bool:
        """Whether *text*, the message of an exception, is of this kind."""
        return re.search(self.texts, text, re.IGNORECASE | re.DOTALL) is not None


# https://docs.nvidia.com/cuda/cuda-runtime-api/group__CUDART__TYPES.html has the numbers.
DRIVER = (
    Diagnosis(
        kind="driver too old",
        texts=r"driver on your system is too old|driver version is insufficient|Error 35\b|"
        r"Error 803|unsupported display driver|Error 804|forward compatibility was attempted",
        error=CudaUnsupported,
        remedy="Update the NVIDIA driver and restart the machine, or train in an image for an "
        "older CUDA release (`--cuda 12`). Error 803 also follows an update without a restart.",
    ),
    Diagnosis(
        kind="GPU not supported",
        texts=r"no kernel image is available|Error 209",
        error=CudaUnsupported,
        remedy="This torch has no code for this GPU; `invoke inspect` lists the architectures "
        "of the image. Try the image for the other CUDA release (`--cuda 12`).",
    ),
    Diagnosis(
        kind="GPU not ready",
        texts=r"Error 802|system not yet initialized",
        error=NoGpu,
        remedy="Start NVIDIA's fabric manager on the machine "
        "(`sudo systemctl start nvidia-fabricmanager`); its version must be the driver's.",
    ),
    Diagnosis(
        kind="no CUDA in the image",
        texts=r"Torch not compiled with CUDA enabled",
        error=NoGpu,
        remedy="Train with --gpus 0, or in an image built with --cuda 12 or 13.",
    ),
)

NO_GPU = Diagnosis(
    kind="no GPU",
    texts=r"Found no NVIDIA driver|No CUDA GPUs are available|Error 100\b|no CUDA-capable device",
    error=NoGpu,
    remedy="Give the container the GPUs (`docker run --gpus all`, nvidia.com/gpu in Kubernetes), "
    "and check that `nvidia-smi` works in it. `--gpus 0` trains on the CPU.",
)

OUT_OF_MEMORY = Diagnosis(
    kind="out of memory",
    # Of CUDA, its libraries, NCCL, torch's allocator, the system, and the kernel's OOM killer.
    texts=r"out of memory|can't allocate memory|cannot allocate memory|"
    r"(CUBLAS|CUDNN|CUSPARSE|CUSOLVER)_STATUS_ALLOC_FAILED|ALLOCATION_FAILED|CUFFT_ALLOC_FAILED|"
    r"worker \(pid \d+\) is killed by signal: Killed",
    error=OutOfMemory,
    remedy="Use a smaller batch size, fewer loader workers, or more memory. If `nvidia-smi` shows "
    "another process on the GPU, wait for it or choose another GPU (`--gpus device=N`).",
)
COMMUNICATION_FAILED = Diagnosis(
    kind=first_failure.LOST,
    texts=r"\bNCCL\b|\bgloo\b|ProcessGroup|Watchdog caught|Socket ?Timeout|"
    r"Connection (was )?(closed|reset|refused)|Timed out waiting \d+ ?ms|Broken pipe",
    error=CommunicationFailed,
    remedy="Find the process that failed first. If none did, let NCCL say what it does "
    "(`--env NCCL_DEBUG=INFO`), and try without direct access between GPUs "
    "(`--env NCCL_P2P_DISABLE=1`).",
)
# In this order: a failure of NCCL for lack of memory is lack of memory.
TRAINING = (
    Diagnosis(
        kind="shared memory full",
        texts=r"out of shared memory|</torch_[^>]*>: No space left|/dev/shm\b.*No space left|"
        r"No space left on device.*/dev/shm|creating shared memory segment",
        error=SharedMemoryFull,
        remedy="Give the container more shared memory (`--shm-size 8g`), or use fewer loader "
        "workers or smaller batches.",
    ),
    Diagnosis(
        kind="too many open files",
        texts=r"Too many open files",
        error=None,
        remedy="Raise the limit (`--docker-arg=--ulimit=nofile=65536`), or use fewer loader "
        "workers.",
    ),
    OUT_OF_MEMORY,
    Diagnosis(
        kind="index out of range on the GPU",
        texts=r"device-side assert",
        error=None,
        remedy="Mostly a label or an index is out of range: the data has more classes than the "
        "model has outputs. `--gpus 0` names line and value, `--env CUDA_LAUNCH_BLOCKING=1` the "
        "line.",
    ),
    Diagnosis(
        kind="GPU failed",
        texts=r"(CUDA error|Cuda failure|CUBLAS|CUDNN|NVML)[^\n]{0,120}"
        r"(illegal memory access|misaligned address|illegal instruction|invalid program counter|"
        r"hardware stack error|unspecified launch failure|launch timed out|uncorrectable|"
        r"contained memory|unknown error|Error 999|is lost|fallen off the bus|"
        r"busy or unavailable)",
        error=GpuFailed,
        remedy="The driver's log has the reason (`sudo dmesg | grep Xid`): Xid 13 and 31 are "
        "faults of a program, 48, 63, 64, 74, 79, 94 and 95 of the GPU. Restart the machine, or "
        "choose another GPU (`--gpus device=N`), then resume.",
    ),
    COMMUNICATION_FAILED,
)


def of_training(error: BaseException) -> Diagnosis | None:
    """
    Return what ended a training with *error*; None if it is an exception like any other.

    The causes of *error* count, because scripts and loaders raise other errors from them.
    """
    return next((found for one in causes(error) if (found := _of(one))), None)


def _of(error: BaseException) -> Diagnosis | None:
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return OUT_OF_MEMORY
    # torch's own classes are RuntimeErrors. Other classes with such a text are the script's.
    if not isinstance(error, RuntimeError | OSError):
        return None
    found = next((one for one in TRAINING if one.matches(text(error))), None)
    return None if found is COMMUNICATION_FAILED and not _is_of_job(error) else found


def _is_of_job(error: BaseException) -> bool:
    """Whether *error* can be one between the processes of a job: a download's is an OSError."""
    return not isinstance(error, OSError) and reporting.processes() > 1


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield *error*, the errors in it if it is a group, and all from which they were raised."""
    seen: set[int] = set()
    found: list[BaseException] = [error]
    while found:
        one = found.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        found += one.exceptions if isinstance(one, BaseExceptionGroup) else ()
        found += [one.__cause__] if one.__cause__ is not None else []


def text(error: BaseException) -> str:
    """Return the message of *error*, also where its own code for that fails."""
    try:
        return str(error)
    except Exception as failed:  # noqa: BLE001 - the message may be any code of the script's
        return f"(its message failed: {type(failed).__name__})"


def first_line(error: BaseException) -> str:
    """Return the message of *error* on one line, without CUDA's general advice."""
    message = ADVICE.split(text(error), maxsplit=1)[0]
    return " ".join(message.split()) or type(error).__name__


def of_unusable_gpu(error: Exception) -> SamerunError:
    """Return the error for *error*, with which CUDA failed before the training began."""
    reason = first_line(error)
    found = next((one for one in (*DRIVER, OUT_OF_MEMORY) if one.matches(reason)), NO_GPU)
    what = f"CUDA does not work in the container: {reason.rstrip('.')}."
    return (found.error or NoGpu)(what, found.remedy)
