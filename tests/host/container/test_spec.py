import csv
import dataclasses

import pytest

from samerun.core import contract, variables
from samerun.core.record import Mount
from samerun.core.variables import Facts
from samerun.host.container.spec import ContainerSpec, mount_option, own_variables


@pytest.fixture
def two():
    """Two processes on the CPU with data."""
    return ContainerSpec(
        run="r1",
        image="samerun@sha256:" + "a" * 64,
        user="12345:12345",
        target="digits",
        arguments=("--name", "a b"),
        procs=2,
        seed=7,
        shm_size="1g",
        mounts=(Mount(source="/runs/r1", target="/output", read_only=False),),
        environment={"B": "2", "A": "1"},
    )


def test_container_is_locked_down(two):
    """Not root, no capabilities, no new privileges, read-only root, an init, bounded processes."""
    argv = two.argv()

    for flag in (
        "--user=12345:12345",
        "--cap-drop=ALL",
        "--security-opt=no-new-privileges",
        "--read-only",
        "--init",
        "--pids-limit=4096",
        "--pull=never",
    ):
        assert flag in argv


def test_the_launch_is_the_same_as_data(two):
    """What a next start takes over; processes over all nodes are its ranks."""
    launch = two.launch()

    assert (launch.target, launch.arguments, launch.ranks) == ("digits", ("--name", "a b"), 2)
    assert (launch.mounts, launch.environment) == (two.mounts, {"A": "1", "B": "2"})


def test_arguments_stay_apart(two):
    """Quoting is not needed: an argument with a blank is one element at the end."""
    assert two.argv()[-7:] == ["--procs", "2", "--seed", "7", "digits", "--name", "a b"]


def test_stop_timeout_is_longer_than_the_launchers(two):
    """Torch's launcher gives workers 30 s; the engine must not kill it before."""
    assert contract.STOP_TIMEOUT_S > 30
    assert f"--stop-timeout={contract.STOP_TIMEOUT_S}" in two.argv()


def test_mounts_are_read_only_unless_said():
    """Only the output is writable."""
    assert mount_option(Mount(source="/a", target="/data")).endswith(",readonly")
    assert "readonly" not in mount_option(Mount(source="/a", target="/output", read_only=False))


def test_comma_and_quote_in_a_path_survive():
    """Docker reads --mount as CSV."""
    spec = mount_option(Mount(source='/a,b"c', target="/data"))

    assert next(csv.reader([spec])) == ["type=bind", 'source=/a,b"c', "target=/data", "readonly"]


def make(forwarded, *, has_key=True):
    facts = Facts(image="img@sha256:1", tags=("t", "d"), forwarded=forwarded, online=has_key)
    return variables.environment(facts) | own_variables(has_key=has_key)


def test_every_run_carries_the_image_reference_and_the_tags():
    """W&B reads both from the environment."""
    values = make({})

    assert values["WANDB_DOCKER"] == "img@sha256:1"
    assert values["WANDB_TAGS"] == "t,d"


def test_empty_variables_are_dropped():
    """An empty WANDB_TAGS makes wandb.init raise."""
    assert "WANDB_NOTES" not in make({"WANDB_NOTES": ""})


def test_without_a_key_wandb_is_offline():
    """Nothing asks a question, and nothing waits for the network."""
    values = make({}, has_key=False)

    assert values["WANDB_MODE"] == "offline"
    assert values["WANDB_ERROR_REPORTING"] == "false"
    assert "NETRC" not in values


def test_key_is_named_by_its_file_only():
    """The environment has the path of the netrc file, and nothing else of the key."""
    values = make({}, has_key=True)

    assert values["NETRC"] == contract.NETRC
    assert "WANDB_API_KEY" not in values


def test_limits_stand_in_the_command(two):
    """Memory twice: with swap it would be another number, and a host that grinds."""
    argv = dataclasses.replace(two, memory="8g", pids_limit=99).argv()

    assert {"--memory=8g", "--memory-swap=8g", "--pids-limit=99", "--ipc=private"} <= set(argv)


def test_nothing_loosens_seccomp(two):
    """The engine's default profile holds where no other is named."""
    assert [a for a in two.argv() if "security-opt" in a] == ["--security-opt=no-new-privileges"]


@pytest.mark.parametrize("mode", ["offline", "dryrun", "disabled"])
def test_wandb_is_online_with_a_key_only(mode):
    """And where its mode does not forbid it."""
    assert variables.wandb_is_online(None, has_key=True)
    assert not variables.wandb_is_online(None, has_key=False)
    assert not variables.wandb_is_online(mode, has_key=True)


def test_end_of_an_online_run_does_not_wait_for_ever():
    """wandb's own default is no limit; a run without a key has nobody to wait for."""
    assert int(make({})["WANDB_FINISH_TIMEOUT"]) == contract.FINISH_TIMEOUT_S
    assert "WANDB_FINISH_TIMEOUT" not in make({}, has_key=False)
