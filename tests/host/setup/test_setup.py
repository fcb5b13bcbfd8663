import dataclasses

import pytest

from samerun.core.errors import SetupFailed
from samerun.host.setup import steps
from samerun.host.setup.steps import Machine

BARE = Machine(
    system="debian",
    codename="bookworm",
    root=True,
    systemd=False,
    engine_answers=False,
    engine_installed=False,
    docker_repository=False,
    base_needs_bootstrap=False,
    has_mmdebstrap=False,
    has_gpu=False,
    has_driver=False,
    gpu_runtime=False,
    shielded=True,
)


def commands(**changes):
    return "\n".join(step.command for step in steps.plan(dataclasses.replace(BARE, **changes)))


def test_nothing_is_done_where_an_engine_answers():
    """`invoke setup` may be run at any time."""
    assert commands(engine_answers=True) == ""


def test_dockers_own_repository_is_the_first_choice():
    """It has the newest engine."""
    assert "docker-ce" in commands(docker_repository=True)
    assert "trixie" not in commands(docker_repository=True)


def test_debian_12_gets_the_engine_of_debian_13():
    """Its own is 20.10, without buildx and containerd's store."""
    assert "docker-buildx/trixie" in commands()
    assert "Pin-Priority: 50" in commands()


def test_other_releases_get_their_own_engine():
    """Debian 13 and Ubuntu have buildx as a package."""
    assert "docker.io docker-buildx" in commands(system="ubuntu", codename="noble")
    assert "docker-cli" in commands(codename="trixie")


def test_installed_engine_is_only_started():
    """After a restart without systemd."""
    assert commands(engine_installed=True).startswith("setsid nohup dockerd")
    assert commands(engine_installed=True, systemd=True) == "systemctl enable --now docker"


def test_bootstrap_tool_comes_only_where_it_is_needed():
    """A registry that answers needs no mmdebstrap."""
    assert "mmdebstrap" in commands(engine_answers=True, base_needs_bootstrap=True)
    assert "mmdebstrap" not in commands(engine_answers=True)


def test_gpu_without_runtime_gets_the_toolkit():
    """And a machine with both is left alone."""
    assert "nvidia-container-toolkit" in commands(engine_answers=True, has_gpu=True)
    assert commands(engine_answers=True, has_gpu=True, gpu_runtime=True) == ""


def test_toolkit_is_installed_where_the_driver_is_still_missing():
    """A card on the bus is enough; what needs the driver is left for later."""
    planned = commands(engine_answers=True, has_gpu=True)

    assert "cdi generate" not in planned
    assert "cdi generate" in commands(engine_answers=True, has_gpu=True, has_driver=True)


def test_engine_is_restarted_for_the_toolkit_and_not_only_reloaded():
    """The driver of `--gpus` is registered when the engine starts."""
    for systemd in (True, False):
        steps_of = commands(engine_answers=True, has_gpu=True, systemd=systemd).splitlines()
        assert "HUP" not in steps_of[-1]
        assert ("systemctl restart docker" in steps_of[-1]) == systemd
        assert ("kill $pid" in steps_of[-1]) != systemd


def test_toolkit_can_be_installed_a_second_time():
    """gpg would ask on a terminal whether to overwrite the key."""
    assert "gpg --batch --yes --dearmor" in commands(engine_answers=True, has_gpu=True)


def test_gpus_of_running_containers_survive_a_reload_of_systemd():
    """An update of any package would take them away: nvidia-container-toolkit, issue 48."""
    options = {"engine_answers": True, "has_gpu": True, "has_driver": True}

    assert "create-dev-char-symlinks" in commands(**options, systemd=True)
    assert "create-dev-char-symlinks" not in commands(**options)


def test_toolkit_of_other_systems_is_sent_to_nvidias_pages():
    """apt-get would fail there."""
    with pytest.raises(SetupFailed, match="not on fedora"):
        commands(system="fedora", engine_answers=True, has_gpu=True)


def test_other_systems_are_sent_to_dockers_pages():
    """What can't be installed is said, with the system's name."""
    with pytest.raises(SetupFailed, match="fedora"):
        commands(system="fedora")
