"""What is found on the machine, from outside and from inside, and that nothing falls back."""

import json

import pytest
import torch
from conftest import ON_CPU
from resuming import part
from starting import train

from samerun.core import hardware
from samerun.core.errors import NoGpu


def test_card_and_software_are_stated(table):
    name = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "CPU"
    nccl = ".".join(map(str, torch.cuda.nccl.version())) if torch.cuda.is_available() else "-"
    table("card", f"{torch.cuda.device_count()} x {name}")
    table("torch", f"{torch.__version__}, cuDNN {torch.backends.cudnn.version()}, NCCL {nccl}")


@pytest.mark.gpus(1)
def test_nvidia_smi_and_torch_see_the_same_gpus(table):
    found = hardware.probe()
    gpus = getattr(found, "gpus", found)
    assert len(gpus) == torch.cuda.device_count()
    for gpu in gpus:
        seen = torch.cuda.get_device_properties(gpu.index)
        assert gpu.capability == f"{seen.major}.{seen.minor}"
        assert seen.name in gpu.name or gpu.name in seen.name
        table(f"nvidia-smi, GPU {gpu.index}", gpu)


def test_record_names_the_device_that_computed(tmp_path, table):
    assert train(tmp_path, "tabular", "--epochs", 1) == 0, (tmp_path / "log.txt").read_text()
    environment = part(tmp_path, "environment")
    assert environment["device"] == ("cpu" if ON_CPU else "cuda")
    table("record's environment", f"`{json.dumps(environment, sort_keys=True)}`")


@pytest.mark.gpus(1)
def test_hidden_gpu_is_an_error_and_no_training_on_the_cpu(tmp_path, table):
    code = train(tmp_path, "tabular", "--epochs", 1, CUDA_VISIBLE_DEVICES="-1")
    said = (tmp_path / "log.txt").read_text()
    table("GPU asked for and not there", f"exit code {code}: {said.strip().splitlines()[-1]}")
    assert code == NoGpu.exit_code, said
    assert not (tmp_path / "model.pkl").exists()


@pytest.mark.gpus(1)
def test_more_processes_than_gpus_are_an_error(tmp_path, table):
    procs = torch.cuda.device_count() + 1
    code = train(tmp_path, "tabular", "--epochs", 1, procs=procs, SAMERUN_GPUS=str(procs))
    said = (tmp_path / "log.txt").read_text()
    table(f"{procs} processes on {procs - 1} GPU", f"exit code {code}")
    assert code == NoGpu.exit_code, said
