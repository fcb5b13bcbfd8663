"""A training computes on the GPUs that were asked for, or does not begin."""

import os
import subprocess
import sys

import pytest
import torch
from sample import sample

from samerun.core import contract, parts, record
from samerun.core.errors import CudaUnsupported, NoGpu
from samerun.train import devices
from samerun.train.report import diagnosis
from samerun.train.standalone import probe

without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")


def entry(folder, *options, **variables):
    """Run a script that would read data, with the record in *folder*."""
    script = folder / "train.py"
    script.write_text("print('the data is read')\n")
    return subprocess.run(
        [sys.executable, "-m", "samerun.train", *options, str(script)],
        env=os.environ | {contract.ENV_RECORD: str(folder / contract.RECORD)} | variables,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


@without_gpu
@pytest.mark.parametrize("procs", ["1", "2"])
def test_a_training_for_gpus_ends_before_it_reads_data_where_cuda_does_not_work(folder, procs):
    """With torch's own reason, in one process and in two; the record names no device."""
    done = entry(folder, "--procs", procs, SAMERUN_GPUS=procs)
    run = parts.assemble(folder, record.read(folder))

    assert done.returncode == NoGpu.exit_code
    assert "the data is read" not in done.stdout
    assert "CUDA does not work in the container: " in done.stderr
    assert run.outcome.failure["kind"] == "no GPU"
    assert "device" not in run.environment


@without_gpu
def test_a_training_for_the_cpu_hides_gpus_and_records_the_cpu(folder):
    """A container may have more devices than its run asked for."""
    done = entry(folder, SAMERUN_GPUS="0")
    run = parts.assemble(folder, record.read(folder))

    assert done.returncode == 0
    assert (run.environment["device"], run.environment["gpus"]) == ("cpu", [])


@pytest.mark.parametrize("text", ["two", "-1", "²"])
def test_the_number_of_gpus_is_a_number(monkeypatch, text):
    """Anything else would be read as zero."""
    monkeypatch.setenv(contract.ENV_GPUS, text)

    with pytest.raises(NoGpu, match="SAMERUN_GPUS is"):
        devices.requested()


COUNT = "Unexpected error from cudaGetDeviceCount(). Did you run some cuda functions before? "
KERNEL = "CUDA error: no kernel image is available for execution on the device"
ADVICE = "\nSearch for `cudaErrorNoKernelImageForDevice' in https://docs.nvidia.com/cuda/\n"


@pytest.mark.parametrize(
    ("words", "expected", "remedy"),
    [
        (COUNT + "Error 802: system not yet initialized", NoGpu, "fabricmanager"),
        (
            COUNT + "Error 803: system has unsupported display driver / cuda driver combination",
            CudaUnsupported,
            "restart the machine",
        ),
        (
            COUNT + "Error 804: forward compatibility was attempted on non supported HW",
            CudaUnsupported,
            "Update the NVIDIA driver",
        ),
        (
            "The NVIDIA driver on your system is too old (found version 11040). Please update",
            CudaUnsupported,
            "--cuda 12",
        ),
        ("Found no NVIDIA driver on your system. Please check", NoGpu, "nvidia-smi"),
        ("No CUDA GPUs are available", NoGpu, "--gpus all"),
        ("Torch not compiled with CUDA enabled", NoGpu, "--cuda 12 or 13"),
        (KERNEL + ADVICE, CudaUnsupported, "architectures"),
    ],
)
def test_the_reason_why_cuda_does_not_work_has_its_error_and_remedy(words, expected, remedy):
    """The texts are those of torch 2.14 and of CUDA 13; CUDA's general advice is left out."""
    error = diagnosis.of_unusable_gpu(RuntimeError(words))

    assert type(error) is expected
    assert words.split("\n")[0].rstrip(".") in error.what
    assert "Search for" not in error.what
    assert remedy in error.remedy


def test_more_processes_than_gpus_are_refused(monkeypatch):
    """Otherwise the second one's `set_device` fails with an invalid ordinal."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")

    with pytest.raises(NoGpu, match="2 processes need 2 GPUs, but CUDA finds only 1"):
        devices.choose()


def test_data_is_not_read_for_a_fingerprint_where_the_gpus_do_not_work(monkeypatch, tmp_path):
    """A bucket may take an hour, and the training would not begin after it."""
    monkeypatch.setattr(contract, "DATA", str(tmp_path))
    (tmp_path / "image").write_bytes(b"1")

    (data,), unknown = probe.describe_data({contract.ENV_SOURCE: "s3://photos"}, lambda: False)

    assert data.fingerprint is None
    assert "not read, because the GPUs do not work" in unknown[0]


@pytest.mark.parametrize(
    ("environment", "gpus", "names"),
    [
        ({"device": "cpu", "gpus": []}, "0", ()),
        ({"device": "cuda", "gpus": [{"name": "L4", "capability": "8.9"}]}, "1", ("L4 (8.9)",)),
    ],
)
def test_a_container_started_by_hand_records_what_it_used(folder, environment, gpus, names):
    """Its devices may not work, and WSL2 has GPUs without the usual device files."""
    parts.report(folder, "environment", environment)
    run = record.Run(**{**vars(sample()), "written_by": "container"})

    used = parts.assemble(folder, run)

    assert (used.topology.gpus, used.hardware.gpus) == (gpus, names)
