import dataclasses

import cards
import pytest

from samerun.core.errors import CudaUnsupported, NoGpu, UsageError
from samerun.host.image import identity
from samerun.host.launch import devices, prepare
from samerun.host.launch.request import Request
from samerun.host.machine import gpus

FACTS = {"cuda": "13.0", "architectures": ["sm_75", "sm_80", "sm_90"]}
A100 = "NVIDIA A100-SXM4-40GB (8.0)"
H100 = "NVIDIA H100 80GB HBM3 (9.0)"


def with_gpus(run, asked, *labels):
    topology = dataclasses.replace(run.topology, gpus=asked, procs=max(1, len(labels)))
    hardware = dataclasses.replace(run.hardware, gpus=labels)
    return dataclasses.replace(run, topology=topology, hardware=hardware)


def again(run, text, **limits):
    return [g.index for g in devices.same_devices(run, cards.present(text, **limits), None).gpus]


def test_a_resumed_run_with_all_gpus_gets_as_many_as_it_had(run):
    """`all` is another number on another machine, and its processes are recorded."""
    two = with_gpus(run, "all", A100, A100)

    assert again(two, cards.TWO) == [0, 1]
    assert again(two, cards.EIGHT) == [0, 1]
    with pytest.raises(NoGpu, match="had 2 GPUs: this machine has only 1") as caught:
        again(two, cards.V100)
    assert "--gpus" not in str(caught.value)


def test_a_resumed_run_prefers_the_model_that_it_had(run):
    """On a machine with several models."""
    recorded = with_gpus(run, "1", "NVIDIA GeForce RTX 4090 (8.9)")

    assert again(recorded, cards.MIXED) == [1]


def test_named_devices_are_taken_again_where_they_are(run):
    """Elsewhere their number and model count, since --gpus can't be given again."""
    by_uuid = with_gpus(run, f"device={cards.UUID}1", H100)

    assert again(by_uuid, cards.TWO) == [1]
    assert again(with_gpus(run, "device=GPU-0ff,GPU-1ff", A100, A100), cards.TWO) == [0, 1]
    with pytest.raises(NoGpu, match="only 1"):
        again(with_gpus(run, "device=5,4", A100, A100), cards.V100)


def test_a_run_on_the_cpu_stays_there(run):
    """Whatever the machine has."""
    assert devices.same_devices(with_gpus(run, "0"), cards.present(cards.TWO), None) == gpus.CPU


def test_gpus_of_a_record_without_names_are_counted(run):
    """A container that saw no nvidia-smi recorded their number only."""
    nameless = dataclasses.replace(run, topology=dataclasses.replace(run.topology, gpus="2"))

    assert len(devices.as_many(nameless, (), cards.present(cards.EIGHT), None, 2).gpus) == 4


@pytest.mark.parametrize(
    ("output", "said"),
    [(cards.DRIVER_535, "535.183"), (cards.V100, r"7\.0"), (cards.P100, r"6\.0")],
)
def test_driver_and_gpu_are_checked_against_the_image_at_every_start(
    image, monkeypatch, output, said
):
    """An image from a registry says in its description what its torch supports."""
    monkeypatch.setattr(identity, "architectures", lambda client, reference: FACTS)
    chosen = gpus.select("1", cards.present(output))

    with pytest.raises(CudaUnsupported, match=said):
        devices.check(None, chosen, image)
    devices.check(None, gpus.CPU, image)


@pytest.mark.parametrize(
    ("facts", "default", "refused"),
    [({"cuda": None}, "13", True), ({}, "", False), ({}, "13", False), ({}, "none", True)],
)
def test_an_image_without_cuda_is_refused_for_gpus(image, monkeypatch, facts, default, refused):
    """One that says nothing is tried: the container looks again."""
    monkeypatch.setattr(identity, "architectures", lambda client, reference: facts)
    chosen = gpus.select("1", cards.present(cards.TWO))

    if not refused:
        devices.check(None, chosen, image, default)
        return
    with pytest.raises(NoGpu, match="no CUDA"):
        devices.check(None, chosen, image, default)


@pytest.mark.parametrize(("asked", "procs"), [("1", 2), (None, 3), ("device=1", 2), ("all", 9)])
def test_more_processes_than_gpus_are_refused_before_anything_starts(smi, project, asked, procs):
    """By name of both options."""
    smi(cards.TWO)

    with pytest.raises(UsageError, match="--procs"):
        prepare.check_early(Request(gpus=asked, procs=procs), project)
    prepare.check_early(Request(gpus="0", procs=procs), project)


def test_gpus_without_a_process_are_told():
    """They are held for nothing, unless the script uses them itself."""
    two = gpus.select("2", cards.present(cards.TWO))

    assert "1 of the 2 GPUs" in " ".join(devices.notes(two, 1))
    assert list(devices.notes(two, 2)) == list(devices.notes(gpus.CPU, 2)) == []


def test_the_order_of_devices_reaches_the_container(smi, project):
    """Docker gives them in its own order, so CUDA is told."""
    smi(cards.EIGHT)

    argv = prepare.dry(Request(gpus="device=3,1"), project, has_key=False).argv()

    assert f'--gpus="device={cards.UUID}3,{cards.UUID}1"' in argv
    assert f"--env=CUDA_VISIBLE_DEVICES={cards.UUID}3,{cards.UUID}1" in argv
    assert argv[argv.index("--procs") + 1] == "2"


def test_by_default_a_failing_nvidia_smi_stops_the_start(smi, project):
    """The CPU must be asked for."""
    smi(*cards.MISMATCH)

    with pytest.raises(NoGpu, match="version mismatch"):
        prepare.check_early(Request(), project)
    prepare.check_early(Request(gpus="0"), project)
