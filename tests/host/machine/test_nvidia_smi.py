import os
import time

import cards
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samerun.core import hardware, nvidia_smi
from samerun.core.errors import SamerunError
from samerun.core.nvidia_smi import Found, Gpu
from samerun.host.machine import cuda, gpus


def test_a_row_is_read_with_all_its_values(smi):
    """Index, name, driver, capability, UUID, and the memory in all and in use."""
    smi(cards.TWO)

    assert nvidia_smi.query().trouble == ""
    assert hardware.probe()[1] == Gpu(
        index=1,
        name="NVIDIA A100-SXM4-40GB",
        driver="580.65.06",
        capability="8.0",
        uuid=f"{cards.UUID}1",
        memory_mib=40960,
        used_mib=4,
    )


def test_no_nvidia_smi_is_no_gpu_and_no_trouble(monkeypatch, tmp_path):
    """A machine without a card."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(nvidia_smi, "WSL_PATH", tmp_path / "nvidia-smi")

    assert nvidia_smi.query() == Found()


@pytest.mark.parametrize(
    ("output", "gpus", "trouble", "is_failure"),
    [
        (cards.MISMATCH, 0, "Driver/library version mismatch", True),
        (cards.UNREACHABLE, 0, "couldn't communicate with the NVIDIA driver", True),
        (cards.LOST, 0, "GPU is lost", True),
        (cards.SEVEN_OF_EIGHT, 7, "GPU is lost", True),
        (cards.ROW_OF_A_LOST_ONE, 2, "[GPU is lost]", True),
        (cards.INFOROM, 2, "infoROM is corrupted", False),
        (cards.NONE_FOUND, 0, "No devices were found", True),
        (cards.NONE_FOUND_AND_FINE, 0, "No devices were found", True),
        (("", 255), 0, "exit code 255", True),
    ],
)
def test_what_nvidia_smi_says_besides_its_rows_is_trouble(smi, output, gpus, trouble, is_failure):
    """It is kept as text and never parsed; a warning beside rows does not make them doubtful."""
    smi(*output)

    found = nvidia_smi.query()

    assert len(found.gpus) == gpus
    assert trouble in found.trouble
    assert found.is_failure == is_failure


def test_a_driver_that_knows_no_compute_cap_is_asked_again(smi):
    """Driver 470 lists its GPUs, so that it can be told to be too old."""
    smi(*cards.NO_FIELD, old=cards.OLD_ROW)

    found = nvidia_smi.query()

    assert [(g.driver, g.capability) for g in found.gpus] == [("470.199.02", "")]
    assert found.trouble == ""


def test_a_virtual_gpu_has_no_capability(smi):
    """It is in records by its name alone."""
    smi(cards.VGPU)

    assert hardware.describe(hardware.probe(), "Docker 29").gpus == ("NVIDIA A10-24Q",)


def test_mig_instances_stand_in_place_of_their_gpu(smi):
    """Each has its own UUID, and its size in its name."""
    smi(cards.MIG, listed=cards.MIG_LIST)

    found = nvidia_smi.query()

    assert [gpu.uuid for gpu in found.gpus] == list(cards.INSTANCES)
    assert found.gpus[0].label == "NVIDIA A100-SXM4-40GB MIG 3g.20gb (8.0)"
    assert (found.gpus[0].mig, found.gpus[0].is_undivided) == (True, False)


def test_a_gpu_in_mig_mode_without_an_instance_stays(smi):
    """It can't be used, and the user is told why."""
    smi(cards.MIG, listed=cards.MIG_LIST.splitlines()[0] + "\n")

    assert [gpu.is_undivided for gpu in nvidia_smi.query().gpus] == [True]


def test_instances_that_can_t_be_listed_are_trouble(smi):
    """Then nothing says which there are."""
    smi(cards.MIG, 3)

    assert nvidia_smi.query().trouble == "exit code 3"
    assert nvidia_smi.query().is_failure


def test_wsl_has_nvidia_smi_outside_the_path(smi, monkeypatch, tmp_path):
    """Under sudo, PATH has no /usr/lib/wsl/lib."""
    script = smi(cards.WSL)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(nvidia_smi, "WSL_PATH", script)

    assert [gpu.name for gpu in hardware.probe()] == ["NVIDIA GeForce RTX 4090"]


def test_a_driver_that_does_not_answer_is_trouble(smi, monkeypatch):
    """A lost GPU can block nvidia-smi in the kernel; the time is long enough for eight GPUs."""
    assert nvidia_smi.TIMEOUT_S == 90
    smi(cards.TWO).write_text("#!/bin/sh\nexec sleep 60\n")
    monkeypatch.setattr(nvidia_smi, "TIMEOUT_S", 0.2)
    began = time.monotonic()

    assert "no answer" in nvidia_smi.query().trouble
    assert time.monotonic() - began < 5


def test_what_is_no_program_is_trouble(smi):
    """For example a file of another machine's architecture."""
    smi(cards.TWO).write_bytes(b"\x7fELF no program")

    assert "can't be run" in nvidia_smi.query().trouble


def test_bytes_that_are_no_text_are_trouble(smi):
    """Memory of a broken driver library."""
    smi(b"\xff\xfe0, \x00\n" + cards.TWO.encode())

    found = nvidia_smi.query()

    assert len(found.gpus) == 2
    assert found.trouble.isprintable()


REAL = (
    cards.TWO, cards.EIGHT, cards.MIXED, cards.MIG, cards.MIG_LIST, cards.VGPU, cards.WSL,
    cards.P100, *(text for text, _ in cards.FAILURES), cards.SEVEN_OF_EIGHT[0], cards.INFOROM[0],
    cards.ROW_OF_A_LOST_ONE[0],
)  # fmt: skip
ODD = st.sampled_from(
    ["", ", ", "[N/A]", "[Unknown Error]", "9" * 5000, "-1", "8.", ".0", "8.0.0", "٣", "²", "\x85",
     "\x00", "MIG-", "GPU-", "Enabled", "\n", "GPU 0: (UUID: ", "1e9", "0x10"]
)  # fmt: skip


@st.composite
def outputs(draw):
    """A real output, cut and with odd pieces in it, or any text."""
    text = draw(st.one_of(st.sampled_from(REAL), st.text(max_size=200)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(text)))
        end = draw(st.integers(at, min(len(text), at + 20)))
        text = text[:at] + draw(st.one_of(ODD, st.text(max_size=10))) + text[end:]
    return text


@given(
    text=outputs(),
    listed=outputs(),
    code=st.sampled_from([0, 2, 9, 255]),
    asked=st.one_of(st.sampled_from([None, "0", "1", "all", "device=0"]), st.text(max_size=20)),
    visible=st.one_of(st.none(), st.text(max_size=20), st.sampled_from(["", "0,1", "-1", "GPU-"])),
)
def test_no_output_is_an_exception(text, listed, code, asked, visible):
    """Whatever nvidia-smi prints or is asked for: GPUs, the CPU, or an error with a remedy."""
    present = cards.present(text, code, listed=listed, visible=visible)
    hardware.describe(present.gpus, "Docker 29")
    try:
        chosen = gpus.select(asked, present)
        for release in ("12", "13", "none"):
            cuda.check_support(chosen.gpus, release, ("sm_75", "sm_90a", "compute_90"))
    except SamerunError as error:
        assert all((error.what, error.remedy))  # noqa: PT017 - any output may be none
    else:
        assert asked is None or asked == "0" or chosen.gpus


def test_old_fields_are_read_too():
    """The second question has fewer values."""
    found = nvidia_smi.parse(cards.OLD_ROW.splitlines(), 0, nvidia_smi.OLD_FIELDS)

    assert (found.gpus[0].memory_mib, found.gpus[0].used_mib, found.trouble) == (16160, 0, "")
    assert os.linesep not in found.gpus[0].name
