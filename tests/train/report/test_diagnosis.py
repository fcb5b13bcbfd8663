"""What ended a training, from the texts that torch, CUDA and NCCL really print."""

import pytest

from samerun.train.report import diagnosis

OUT_OF_MEMORY, GPU_FAILED, COMMUNICATION, SHARED_MEMORY = 112, 113, 114, 115
LOADER = "DataLoader worker (pid 71) is killed by signal: "
ADVICE = "\nCUDA kernel errors might be asynchronously reported at some other API call"


class OutOfMemoryError(RuntimeError):
    """As torch's, which is in no module that a test without a GPU could use."""


class AcceleratorError(RuntimeError):
    """As torch's."""


class DistBackendError(RuntimeError):
    """As torch's."""


NCCL = "NCCL error in: ProcessGroupNCCL.cpp:94, unhandled cuda error, NCCL version 2.28.9\n"
CASES = {
    "memory-python": (MemoryError(), OUT_OF_MEMORY),
    "memory-torch": (OutOfMemoryError("Tried to allocate 2.00 GiB."), OUT_OF_MEMORY),
    "memory-cpu": (
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"),
        OUT_OF_MEMORY,
    ),
    "memory-context": (AcceleratorError("CUDA error: out of memory" + ADVICE), OUT_OF_MEMORY),
    "memory-cublas": (
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        OUT_OF_MEMORY,
    ),
    "memory-cudnn": (
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
        OUT_OF_MEMORY,
    ),
    "memory-nccl": (
        DistBackendError(NCCL + "Last error:\nCuda failure 2 'out of memory'"),
        OUT_OF_MEMORY,
    ),
    "memory-worker": (RuntimeError(LOADER + "Killed. "), OUT_OF_MEMORY),
    "memory-fork": (OSError(12, "Cannot allocate memory"), OUT_OF_MEMORY),
    "shm-bus": (
        RuntimeError(
            LOADER + "Bus error. It is possible that dataloader's workers are out of shared memory."
        ),
        SHARED_MEMORY,
    ),
    "shm-torch": (
        RuntimeError("unable to write to file </torch_12_345_6>: No space left on device (28)"),
        SHARED_MEMORY,
    ),
    "shm-nccl": (
        DistBackendError(
            NCCL + "Error while creating shared memory segment /dev/shm/nccl-yV0 (size 9637888)"
        ),
        SHARED_MEMORY,
    ),
    "shm-python": (OSError(28, "No space left on device", "/dev/shm/psm_1"), SHARED_MEMORY),
    "files": (
        RuntimeError("unable to open shared memory object </torch_1>: Too many open files (24)"),
        1,
    ),
    "index": (AcceleratorError("CUDA error: device-side assert triggered" + ADVICE), 1),
    "gpu-address": (
        AcceleratorError("CUDA error: an illegal memory access was encountered" + ADVICE),
        GPU_FAILED,
    ),
    "gpu-launch": (
        DistBackendError(NCCL + "Last error:\nCuda failure 719 'unspecified launch failure'"),
        GPU_FAILED,
    ),
    "gpu-ecc": (
        RuntimeError("CUDA error: uncorrectable ECC error encountered"),
        GPU_FAILED,
    ),
    "gpu-lost": (RuntimeError("CUDA error: unknown error"), GPU_FAILED),
    "gpu-busy": (
        RuntimeError("CUDA error: CUDA-capable device(s) is/are busy or unavailable"),
        GPU_FAILED,
    ),
    "ranks-nccl": (
        DistBackendError("NCCL error in: ProcessGroupNCCL.cpp:3690, unhandled system error"),
        COMMUNICATION,
    ),
    "ranks-watchdog": (
        RuntimeError("Watchdog caught collective operation timeout: WorkNCCL(SeqNum=7)"),
        COMMUNICATION,
    ),
    "ranks-gloo": (
        RuntimeError("[gloo/transport/tcp/pair.cc:561] Connection closed by peer [127.0.0.1]:1"),
        COMMUNICATION,
    ),
}


@pytest.fixture(autouse=True)
def job(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")


@pytest.mark.parametrize("name", CASES)
def test_text_has_its_kind_and_its_remedy(name):
    error, code = CASES[name]
    found = diagnosis.of_training(error)

    assert found.exit_code == code
    assert found.remedy


def test_what_a_loader_s_worker_or_a_callback_wrapped_keeps_its_kind():
    """torch and fastai raise the same class with a longer text; scripts raise their own from it."""
    error, code = CASES["shm-torch"]
    text = f"Caught RuntimeError in DataLoader worker process 0.\nOriginal Traceback\n{error}"
    outer = ValueError("the epoch failed")
    outer.__cause__ = RuntimeError(text)
    group = ExceptionGroup("two", [KeyError("x"), outer])

    assert diagnosis.of_training(group).exit_code == code
    assert diagnosis.of_training(KeyError("x")) is None


@pytest.mark.parametrize(
    "error",
    [
        ValueError("CUDA error: out of memory"),
        KeyError("NCCL"),
        ConnectionResetError(104, "Connection reset by peer"),
        RuntimeError("mat1 and mat2 shapes cannot be multiplied (8x4 and 5x2)"),
        RuntimeError("the GPU cluster's label is lost"),
        OSError(28, "No space left on device", "/output/model.pth"),
        RuntimeError(),
    ],
)
def test_other_exceptions_are_the_script_s(error):
    assert diagnosis.of_training(error) is None


def test_lost_connection_in_a_single_process_is_no_failure_of_a_job(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE")
    assert diagnosis.of_training(RuntimeError("Connection closed by peer")) is None


def test_message_that_fails_is_no_second_failure():
    class Odd(RuntimeError):
        def __str__(self):
            raise KeyError("no text")

    looped = RuntimeError("a")
    looped.__cause__ = other = RuntimeError("b")
    other.__cause__ = looped

    assert diagnosis.of_training(Odd()) is None
    assert diagnosis.first_line(Odd()) == "(its message failed: KeyError)"
    assert diagnosis.of_training(looped) is None


def test_reason_is_one_line_without_the_advice_of_cuda():
    error, _ = CASES["index"]
    assert diagnosis.first_line(error) == "CUDA error: device-side assert triggered"


def test_full_gpu_is_no_broken_driver():
    """The context itself needs memory."""
    failed = diagnosis.of_unusable_gpu(AcceleratorError("CUDA error: out of memory"))
    assert (failed.exit_code, "nvidia-smi" in str(failed)) == (OUT_OF_MEMORY, True)
