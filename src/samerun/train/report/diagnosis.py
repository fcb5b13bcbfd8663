"""
What an error of CUDA, NCCL or the operating system means: kind, exit code, remedy.

The texts are those of torch, CUDA, cuBLAS, cuDNN and NCCL, because their exceptions have few
classes.
"""

import re
from dataclasses import dataclass

from samerun.core.errors import CudaUnsupported, NoGpu, SamerunError

# What CUDA appends to each message, on further lines.
ADVICE = re.compile(
    r"\n\s*(Search for `|CUDA kernel errors might|For debugging consider|Compile with `|"
    r"Device-side assertion tracking)"
)


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """A kind of error: texts (a regular expression), the error's class, and what to do."""

    kind: str
    texts: str
    error: type[SamerunError]
    remedy: str

    def matches(self, text: str) -> bool:
        """Whether *text*, the message of an exception, is of this kind."""
        return re.search(self.texts, text, re.IGNORECASE) is not None


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


def first_line(error: BaseException) -> str:
    """Return the message of *error* on one line, without CUDA's general advice."""
    text = ADVICE.split(str(error), maxsplit=1)[0]
    return " ".join(text.split()) or type(error).__name__


def of_unusable_gpu(error: Exception) -> SamerunError:
    """Return the error for *error*, with which CUDA failed before the training began."""
    reason = first_line(error)
    found = next((one for one in DRIVER if one.matches(reason)), NO_GPU)
    return found.error(f"CUDA does not work in the container: {reason.rstrip('.')}.", found.remedy)
