import cards
import pytest

from samerun.core.errors import NoGpu
from samerun.host.machine import gpus, pci
from samerun.host.setup import doctor, gpu


@pytest.fixture
def bus(tmp_path, monkeypatch):
    """A PCI bus with one NVIDIA GPU."""
    device = tmp_path / "bus" / "0000:01:00.0"
    device.mkdir(parents=True)
    (device / "vendor").write_text("0x10de\n")
    (device / "class").write_text("0x030200\n")
    monkeypatch.setattr(pci, "DEVICES", tmp_path / "bus")


def test_doctor_sees_a_gpu_without_a_driver(bus, smi, project, monkeypatch, tmp_path):
    """It is wrong, and the packages that mend it are named."""
    monkeypatch.setenv("PATH", str(tmp_path))

    line = doctor.line(doctor._gpu(project))

    assert line.startswith("WRONG  gpu     1 NVIDIA GPU without a driver")
    assert "nvidia-utils-580-server" in line


@pytest.mark.parametrize("output", cards.FAILURES)
def test_doctor_repeats_what_a_failing_nvidia_smi_says(smi, project, output):
    """Not "none: training uses the CPU", and no engine is needed for it."""
    smi(*output)

    with pytest.raises(NoGpu) as caught:
        doctor._gpu(project)
    assert output[0].split("\n")[0][:60] in caught.value.what


def test_doctor_says_none_of_a_machine_without_a_gpu(smi, project, monkeypatch, tmp_path):
    """That is fine."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(pci, "DEVICES", tmp_path)

    assert doctor._gpu(project).fix == ""


def test_alike_gpus_are_counted():
    """Eight names would fill three lines."""
    assert gpu.describe(cards.present(cards.EIGHT)) == (
        "8 x NVIDIA H100 80GB HBM3 (9.0), driver 580.65.06"
    )
    assert gpu.describe(cards.present(cards.WSL)) == (
        "NVIDIA GeForce RTX 4090 (8.9), driver 581.29"
    )


@pytest.mark.parametrize(
    ("code", "out", "err", "said"),
    [
        (1, "", "warn\ncuInit returns error 802\n", "nvidia-fabricmanager"),
        (1, "", "cuInit returns error 803\n", "restart the machine"),
        (1, "", "cuInit returns error 999\n", "CUresult"),
        (1, "", "libcuda.so.1 can't be loaded (no such file)\n", "invoke setup"),
        (0, "1\n", "", "1 of 2 GPUs"),
        (137, "", "", "no message"),
    ],
)
def test_what_cuda_says_in_a_container_is_told_with_its_remedy(code, out, err, said):
    """nvidia-smi on the host may say that all is well."""
    with pytest.raises(NoGpu) as caught:
        gpu.judge(code, out, err, 2)
    assert said in str(caught.value)


def test_as_many_gpus_as_wanted_are_well():
    """Nothing is said."""
    gpu.judge(0, "2\n", "", 2)


def test_the_trial_has_the_cage_of_a_run():
    """Read-only, without capabilities, without a network, with these GPUs."""
    chosen = gpus.select("device=1,0", cards.present(cards.TWO))
    argv = gpu._container(chosen, "samerun:cuda13").argv()

    assert {"--gpus=all", "--read-only", "--cap-drop=ALL", "--network=none", "--rm"} <= set(argv)
    assert f"--env=CUDA_VISIBLE_DEVICES={cards.UUID}1,{cards.UUID}0" in argv
