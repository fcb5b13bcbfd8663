import dataclasses

import cards
import pytest

from samerun.core.errors import NoGpu, UsageError
from samerun.host.machine import engine, gpus
from samerun.host.machine.gpus import CPU, Present

TWO = cards.present(cards.TWO)
EIGHT = cards.present(cards.EIGHT)
BUSY = cards.present(cards.BUSY)
MIXED = cards.present(cards.MIXED)
MIG = cards.present(cards.MIG, listed=cards.MIG_LIST)
SERVING = engine.from_answers(
    {"ServerVersion": "29.4.0", "Runtimes": {"nvidia": {}}}, {"ApiVersion": "1.54"}
)
PLAIN = dataclasses.replace(SERVING, runtimes=("runc",), gpu_hooks=())


def uuid(*indices):
    return ",".join(f"{cards.UUID}{index}" for index in indices)


def chosen(asked, present, **options):
    return [gpu.index for gpu in gpus.select(asked, present, **options).gpus]


def test_nothing_asked_takes_all_gpus_or_the_cpu_of_a_machine_without():
    """The CPU is chosen only where no GPU was meant to be."""
    assert gpus.select(None, TWO, engine=SERVING).flag == "all"
    assert gpus.select(None, Present(), engine=SERVING) == CPU


def test_an_engine_that_gives_out_no_gpus_does_not_mean_the_cpu():
    """Neither when GPUs were asked for, nor by default."""
    for asked in (None, "1", "all"):
        with pytest.raises(NoGpu, match="invoke setup"):
            gpus.select(asked, TWO, engine=PLAIN)


@pytest.mark.parametrize("output", cards.FAILURES)
@pytest.mark.parametrize("asked", [None, "1", "all", "device=0"])
def test_a_failing_nvidia_smi_never_means_the_cpu(output, asked):
    """Its own words are in the error, and the way to the CPU."""
    with pytest.raises(NoGpu, match="--gpus 0") as caught:
        gpus.select(asked, cards.present(*output))

    assert output[0].splitlines()[0].rstrip(".") in caught.value.what
    assert gpus.select("0", cards.present(*output)) == CPU


def test_one_lost_gpu_of_eight_is_not_left_out_in_silence():
    """All means all; those that are left must be asked for by number."""
    left = cards.present(*cards.SEVEN_OF_EIGHT, known=8)
    for asked in (None, "all"):
        with pytest.raises(NoGpu, match="lists 7 without a problem"):
            gpus.select(asked, left)

    seven = gpus.select("7", left)

    assert seven.flag == f'"device={uuid(*range(7))}"'
    assert "GPU is lost" in " ".join(seven.notes)


def test_a_warning_of_nvidia_smi_is_told_and_the_gpus_are_used():
    """A corrupted infoROM is no reason to stop."""
    selection = gpus.select(None, cards.present(*cards.INFOROM))

    assert selection.flag == "all"
    assert "infoROM is corrupted" in " ".join(selection.notes)


def test_a_gpu_without_a_driver_is_told():
    """By default the CPU, with a line; asked for, the packages to install."""
    card = Present(on_bus=1)

    assert "no driver" in " ".join(gpus.select(None, card).notes)
    with pytest.raises(NoGpu, match="nvidia-utils-580-server"):
        gpus.select("1", card)


def test_zero_is_the_cpu_even_with_gpus():
    """An explicit 0 hides the GPUs."""
    assert gpus.select("0", TWO) == CPU


def test_a_part_of_the_gpus_is_named_by_uuid():
    """Which no scheduler renumbers; quoted for Docker's CSV."""
    assert gpus.select("1", TWO).flag == f'"device={uuid(0)}"'
    assert gpus.select("device=1", TWO).flag == f'"device={uuid(1)}"'
    assert gpus.select(f"device={uuid(1)}", TWO).flag == f'"device={uuid(1)}"'


def test_a_specification_that_names_only_indices_gets_indices():
    """NixOS writes one; the engine lists the names that it found."""
    indices = dataclasses.replace(SERVING, cdi_gpus=("0", "1", "all"))
    both = dataclasses.replace(SERVING, cdi_gpus=("0", "1", uuid(0), uuid(1), "all"))

    assert gpus.select("1", TWO, engine=indices).flag == '"device=0"'
    assert gpus.select("1", TWO, engine=both).flag == f'"device={uuid(0)}"'


@pytest.mark.parametrize("asked", ["3", "all", "device=5", "1"])
def test_explicit_gpus_never_fall_back(asked):
    """Too few is an error that names the CPU's option."""
    found = Present() if asked in ("all", "1") else TWO

    with pytest.raises(NoGpu, match="--gpus 0"):
        gpus.select(asked, found)


@pytest.mark.parametrize(
    "asked",
    ["two", "", "00", "01", "-1", "٣", "9" * 5000, "device=", "device=0,", "0,1", "device=0;ls"],
)
def test_other_words_are_refused(asked):
    """A typo is no request for the CPU, and no number of 5000 digits a traceback."""
    with pytest.raises(UsageError, match="--gpus"):
        gpus.select(asked, TWO)


def test_devices_keep_their_order():
    """Rank 0 gets the first one: CUDA reads the order from its variable."""
    selection = gpus.select("device=2,1", EIGHT)

    assert [gpu.index for gpu in selection.gpus] == [2, 1]
    assert selection.variables() == {"CUDA_VISIBLE_DEVICES": uuid(2, 1)}
    assert gpus.select("device=1,2", EIGHT).variables() == {}


@pytest.mark.parametrize("asked", ["device=1,1", f"device=1,{cards.UUID}1"])
def test_one_gpu_is_not_two(asked):
    """Named twice, it would be one for two processes."""
    with pytest.raises(UsageError, match="twice"):
        gpus.select(asked, TWO)


def test_mixed_gpus_are_told_and_numbered_as_nvidia_smi_does():
    """CUDA would make the fastest one the first."""
    selection = gpus.select("all", MIXED)

    assert selection.variables() == {"CUDA_VISIBLE_DEVICES": uuid(0, 1)}
    assert "RTX 3090, NVIDIA GeForce RTX 4090" in " ".join(selection.notes)


def test_a_count_prefers_gpus_that_nobody_uses():
    """And if there are not enough of these, the one in use is named."""
    assert chosen("2", BUSY) == [1, 2]
    assert gpus.select("2", BUSY).notes == ()

    notes = " ".join(gpus.select("3", BUSY).notes)

    assert "GPU 0 (NVIDIA L40S) is in use by other processes, with 30.5 of 45.0 GiB" in notes


def test_a_count_prefers_the_recorded_models_in_their_order():
    """A rerun on a machine with others gets those that the run had."""
    recorded = ("NVIDIA GeForce RTX 4090 (8.9)",)

    assert chosen("1", MIXED, models=recorded) == [1]
    assert chosen("2", MIXED, models=(*recorded, "NVIDIA GeForce RTX 3090 (8.6)")) == [1, 0]
    assert chosen("2", MIXED, models=recorded) == [1, 0]
    assert chosen("1", MIXED, models=("NVIDIA B200 (10.0)",)) == [0]


@pytest.mark.parametrize(
    ("variable", "expected"),
    [
        ("2,3", [2, 3]),
        ("3,2", [3, 2]),
        (f"{cards.UUID}5,{cards.UUID}4", [5, 4]),
        ("1,-1,2", [1]),
        ("1,,2", [1]),
        (" 6 , 7 ", [6, 7]),
    ],
)
def test_cuda_visible_devices_limits_the_choice(variable, expected):
    """Slurm sets it, by index or UUID; a default, a count and `all` are of those."""
    limited = dataclasses.replace(EIGHT, visible=variable)

    assert chosen(None, limited) == expected
    assert chosen("all", limited) == expected
    assert chosen("1", limited) == expected[:1]
    assert variable in " ".join(gpus.select(None, limited).notes)
    assert chosen(f"device={expected[-1]}", limited) == expected[-1:]
    for asked in ("8", "device=0"):
        with pytest.raises(NoGpu, match="CUDA_VISIBLE_DEVICES"):
            gpus.select(asked, limited)


@pytest.mark.parametrize("variable", ["", "NoDevFiles", "-1", "-1,0"])
def test_an_empty_cuda_visible_devices_means_none(variable):
    """The CPU by default, with a line; an error where GPUs are asked for."""
    hidden = dataclasses.replace(TWO, visible=variable)

    assert "hides all GPUs" in " ".join(gpus.select(None, hidden).notes)
    assert gpus.select(None, hidden).flag is None
    with pytest.raises(NoGpu, match="no NVIDIA GPU in CUDA_VISIBLE_DEVICES="):
        gpus.select("1", hidden)


@pytest.mark.parametrize("variable", ["9", "0,9", "first", "GPU-", "GPU-ffff"])
def test_a_cuda_visible_devices_that_names_no_gpu_here_is_an_error(variable):
    """CUDA would show fewer, in silence."""
    with pytest.raises(NoGpu, match=r"(?s)CUDA_VISIBLE_DEVICES.*--gpus 0"):
        gpus.select(None, dataclasses.replace(TWO, visible=variable))


def test_gpus_that_a_scheduler_hides_from_nvidia_smi_are_not_given_out():
    """In a job's cgroup nvidia-smi lists two of eight; the engine knows them all."""
    job = dataclasses.replace(TWO, visible="0,1", known=8)

    assert gpus.select("all", job).flag == f'"device={uuid(0, 1)}"'


def test_a_mig_instance_is_chosen_by_uuid_or_alone():
    """By default one of them; the choice is told."""
    assert gpus.select(f"device={cards.INSTANCES[1]}", MIG).flag == (
        f'"device={cards.INSTANCES[1]}"'
    )
    for asked in (None, "1"):
        selection = gpus.select(asked, MIG)
        assert selection.flag == f'"device={cards.INSTANCES[0]}"'
        assert cards.INSTANCES[0] in " ".join(selection.notes)


@pytest.mark.parametrize("asked", ["2", "all", f"device={','.join(cards.INSTANCES)}"])
def test_mig_instances_are_not_joined(asked):
    """CUDA shows a process one of them, and the second rank would die of it."""
    with pytest.raises(NoGpu, match=rf"(?s)one instance.*device={cards.INSTANCES[0]}"):
        gpus.select(asked, MIG)


def test_whole_gpus_are_preferred_to_mig_instances():
    """A machine may have both."""
    mixed = cards.present(cards.MIG + cards.TWO.splitlines()[1], listed=cards.MIG_LIST)

    assert [gpu.mig for gpu in gpus.select(None, mixed).gpus] == [False]
    assert [gpu.mig for gpu in gpus.select("1", mixed).gpus] == [False]
    with pytest.raises(UsageError, match="each of 2"):
        gpus.select("device=0", mixed)


def test_mig_mode_without_an_instance_is_told_with_both_ways_out():
    """The driver lists the GPU, and CUDA finds none."""
    empty = cards.present(cards.MIG)
    for asked in (None, "1", "all", "device=0"):
        with pytest.raises(NoGpu, match=r"(?s)no instance.*-cgi.*-mig 0"):
            gpus.select(asked, empty)


def test_a_gpu_in_mig_mode_that_is_left_out_is_told():
    """Beside others, it is no reason to stop."""
    both = cards.present(cards.MIG + cards.TWO.splitlines()[1])

    assert chosen("all", both) == [1]
    assert "no instance and is not used" in " ".join(gpus.select("all", both).notes)


def test_wsl_gives_a_container_all_gpus_or_none():
    """NVIDIA documents that it can't be given a part."""
    one = cards.present(cards.WSL, wsl=True)
    two = dataclasses.replace(MIXED, wsl=True)

    assert gpus.select("1", one).flag == gpus.select("all", two).flag == "all"
    with pytest.raises(NoGpu, match=r"(?s)WSL2.*--gpus all"):
        gpus.select("1", two)


def test_each_process_needs_its_own_gpu():
    """Else the second one dies of an invalid device, or two share one."""
    with pytest.raises(UsageError, match=r"(?s)2 processes.*--procs 1 or --gpus 2"):
        gpus.check_processes(gpus.select("1", TWO), 2)

    gpus.check_processes(gpus.select("2", TWO), 2)
    gpus.check_processes(CPU, 8)


def test_the_machine_is_looked_at_in_one_place(smi, monkeypatch):
    """nvidia-smi, the variable, the bus."""
    smi(*cards.INFOROM)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")

    present = gpus.look()

    assert (len(present.gpus), present.visible, present.is_failure) == (2, "1", False)
    assert chosen(None, present) == [1]
