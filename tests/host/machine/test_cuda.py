import cards
import pytest

from samerun.core.errors import CudaUnsupported, NoGpu
from samerun.core.nvidia_smi import Gpu
from samerun.host.machine import cuda

# Of the locked torch for each CUDA release.
BUILT = {
    "12": ("sm_70", "sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"),
    "13": ("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"),
}


def gpu(driver="580.65.06", capability="8.0"):
    return Gpu(index=0, name="G", driver=driver, capability=capability)


def of(text):
    return cards.present(text).gpus


def test_old_driver_is_found_before_the_start():
    """CUDA 13 needs 580; an older driver is sent to CUDA 12."""
    with pytest.raises(CudaUnsupported, match=r"(?s)535\.183.*--cuda 12"):
        cuda.check_support(of(cards.DRIVER_535), "13", BUILT["13"])
    cuda.check_support(of(cards.DRIVER_535), "12", BUILT["12"])


def test_a_run_that_keeps_its_image_is_not_sent_to_another():
    """A resumed or reproduced one: what can change is the machine."""
    for gpus in (of(cards.DRIVER_535), of(cards.V100)):
        with pytest.raises(CudaUnsupported) as caught:
            cuda.check_support(gpus, "13", BUILT["13"], is_fixed=True)
        assert "--cuda" not in str(caught.value)


def test_driver_too_old_for_both_needs_a_new_one():
    """CUDA 12 is no way out for a driver older than 525.60."""
    with pytest.raises(CudaUnsupported) as caught:
        cuda.check_support([gpu(driver="470.199.02", capability="")], "13", BUILT["13"])
    assert "--cuda 12" not in str(caught.value)


def test_the_driver_to_install_exists():
    """Debian's and Ubuntu's own `nvidia-driver` is none, or too old for CUDA 13."""
    remedy = cuda.driver_remedy()

    assert "ubuntu-drivers install --gpgpu nvidia:580-server" in remedy
    assert "nvidia-utils-580-server" in remedy
    assert "apt install nvidia-driver" not in remedy


def test_in_wsl_the_driver_is_that_of_windows(monkeypatch, tmp_path):
    """No package of the Linux side mends it."""
    (tmp_path / "nvidia-smi").touch()
    monkeypatch.setattr(cuda, "WSL_PATH", tmp_path / "nvidia-smi")

    assert "in Windows" in cuda.driver_remedy()


def test_gpu_that_this_cuda_no_longer_serves_is_sent_to_the_other():
    """CUDA 13 dropped Volta; whatever its driver, CUDA 12 has it."""
    with pytest.raises(CudaUnsupported, match=r"(?s)7\.0.*--cuda 12"):
        cuda.check_support(of(cards.V100), "13", BUILT["13"])
    cuda.check_support(of(cards.V100), "12", BUILT["12"])


@pytest.mark.parametrize("release", ["12", "13"])
def test_gpu_that_neither_serves_is_not_sent_back_and_forth(release):
    """Pascal: no image has code for it."""
    with pytest.raises(CudaUnsupported, match=r"(?s)6\.0.*from 7\.0 on.*--gpus 0") as caught:
        cuda.check_support(of(cards.P100), release, BUILT[release])
    assert "invoke build" not in str(caught.value)


def test_gpu_newer_than_the_image_is_sent_to_the_newer_release_only():
    """There is no newer one than CUDA 13."""
    with pytest.raises(CudaUnsupported, match="--cuda 13"):
        cuda.check_support([gpu(capability="13.0")], "12", BUILT["12"])
    with pytest.raises(CudaUnsupported) as caught:
        cuda.check_support([gpu(capability="13.0")], "13", BUILT["13"])
    assert "--cuda 12" not in str(caught.value)


def test_gpu_without_a_capability_is_left_to_torch():
    """A vGPU; its driver is checked."""
    cuda.check_support(of(cards.VGPU), "12", BUILT["12"])
    with pytest.raises(CudaUnsupported, match="550"):
        cuda.check_support(of(cards.VGPU), "13", BUILT["13"])


def test_image_without_cuda_is_refused_for_gpus_only():
    """On the CPU it is the right one."""
    with pytest.raises(NoGpu, match="no CUDA"):
        cuda.check_support([gpu()], "none", ())
    cuda.check_support([], "none", ())


@pytest.mark.parametrize(
    ("capability", "architectures", "expected"),
    [
        ("8.6", ("sm_80",), True),
        ("8.0", ("sm_86",), False),
        ("9.0", ("sm_80",), False),
        ("12.0", ("sm_90", "compute_90"), True),
        ("9.0", ("sm_90a",), True),
        ("12.1", ("sm_120",), True),
        ("8.0", ("", "sm_", "sm_8"), False),
    ],
)
def test_which_code_runs_on_which_gpu(capability, architectures, expected):
    """Binary code within a major release, PTX on everything later."""
    assert expected == cuda.serves(capability, architectures)
