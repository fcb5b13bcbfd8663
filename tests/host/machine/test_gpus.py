import pytest

from samerun.core import hardware
from samerun.core.errors import DriverTooOld, NoGpu, UsageError
from samerun.core.hardware import Gpu
from samerun.host.machine import gpus
from samerun.host.machine.gpus import CPU

SMI = "0, NVIDIA A100-SXM4-40GB, 580.65.06, 8.0\n1, NVIDIA A100-SXM4-40GB, 580.65.06, 8.0\n"
TWO = hardware.parse(SMI)


def gpu(driver="580.65.06", capability="8.0"):
    return Gpu(index=0, name="G", driver=driver, capability=capability)


def test_nvidia_smi_is_read():
    """Index, name, driver and capability of each GPU."""
    assert (
        Gpu(index=1, name="NVIDIA A100-SXM4-40GB", driver="580.65.06", capability="8.0") == TWO[1]
    )


def test_nothing_asked_takes_what_there_is():
    """All GPUs, or the CPU where there are none or no runtime."""
    assert gpus.select(None, TWO, runtime=True).flag == "all"
    assert gpus.select(None, (), runtime=True) == CPU
    assert gpus.select(None, TWO, runtime=False) == CPU


def test_zero_is_the_cpu_even_with_gpus():
    """An explicit 0 hides the GPUs."""
    assert gpus.select("0", TWO, runtime=True) == CPU


def test_one_of_two_is_the_first():
    """A count takes the first ones by index, quoted for Docker's CSV."""
    assert gpus.select("1", TWO, runtime=True).flag == '"device=0"'
    assert gpus.select("device=1", TWO, runtime=True).flag == '"device=1"'


@pytest.mark.parametrize("asked", ["3", "all", "device=5", "1"])
def test_explicit_gpus_never_fall_back(asked):
    """Too few is an error that names the CPU's option."""
    found = () if asked in ("all", "1") else TWO

    with pytest.raises(NoGpu, match="--gpus 0"):
        gpus.select(asked, found, runtime=True)


def test_missing_runtime_is_told_from_missing_gpus():
    """The way out is another one."""
    with pytest.raises(NoGpu, match="invoke setup"):
        gpus.select("2", TWO, runtime=False)


def test_other_words_are_refused():
    """A typo is no request for the CPU."""
    with pytest.raises(UsageError):
        gpus.select("two", TWO, runtime=True)


def test_old_driver_is_found_before_the_start():
    """CUDA 13 needs 580; an older driver is sent to CUDA 12."""
    with pytest.raises(DriverTooOld, match=r"(?s)535\.104.*--cuda 12"):
        gpus.check_support([gpu(driver="535.104.05")], "13", ())
    gpus.check_support([gpu(driver="535.104.05")], "12", ())


def test_driver_too_old_for_both_needs_a_new_one():
    """CUDA 12 is no way out for a driver older than 525.60."""
    with pytest.raises(DriverTooOld) as caught:
        gpus.check_support([gpu(driver="470.1")], "13", ())
    assert "--cuda 12" not in str(caught.value)


def test_gpu_that_this_cuda_no_longer_serves_is_refused():
    """CUDA 13 dropped Volta."""
    with pytest.raises(DriverTooOld, match=r"7\.0"):
        gpus.check_support([gpu(capability="7.0")], "13", ("sm_75", "sm_80", "sm_90"))


@pytest.mark.parametrize(
    ("capability", "architectures", "expected"),
    [
        ("8.6", ("sm_80",), True),
        ("8.0", ("sm_86",), False),
        ("9.0", ("sm_80",), False),
        ("12.0", ("sm_90", "compute_90"), True),
        ("9.0", ("sm_90a",), True),
        ("12.1", ("sm_120",), True),
    ],
)
def test_which_code_runs_on_which_gpu(capability, architectures, expected):
    """Binary code within a major release, PTX on everything later."""
    assert expected == gpus.serves(capability, architectures)
