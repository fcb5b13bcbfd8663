import os
from types import SimpleNamespace

import pytest

from samerun.core.errors import EngineElsewhere
from samerun.host.machine import same_machine

HERE = {"Name": os.uname().nodename, "KernelVersion": os.uname().release}


def client(address="http+docker://localhost", **info):
    """What the engine's client says."""
    return SimpleNamespace(
        info=lambda: HERE | {"SecurityOptions": ["name=seccomp,profile=builtin"]} | info,
        api=SimpleNamespace(base_url=address),
    )


@pytest.mark.parametrize(
    "address", ["http+docker://localhost", "http://127.0.0.1:2375", "https://localhost:2376"]
)
def test_an_engine_of_this_machine_is_taken_by_socket_or_address(address):
    """Its name and kernel are this machine's."""
    same_machine.check(client(address))


@pytest.mark.parametrize(
    "address", ["http+docker://ssh", "http://192.0.2.7:2375", "https://engine.invalid:2376"]
)
def test_an_engine_on_another_machine_is_refused_though_it_has_the_same_name(address):
    """Machines that were cloned have one name and one kernel."""
    with pytest.raises(EngineElsewhere, match="DOCKER_HOST"):
        same_machine.check(client(address))


@pytest.mark.parametrize("info", [{"Name": "docker-desktop"}, {"KernelVersion": "6.10-linuxkit"}])
def test_an_engine_behind_a_tunnel_or_in_a_virtual_machine_is_refused(info):
    """Its socket is here, its files are not."""
    with pytest.raises(EngineElsewhere, match="don't see this machine's files"):
        same_machine.check(client(**info))


@pytest.mark.parametrize(
    ("option", "words"), [("rootless", "rootless"), ("userns", "remaps"), ("selinux", "SELinux")]
)
def test_an_engine_whose_containers_have_other_users_is_refused(option, words):
    """The run could not write its output; the line for people says which setting it is."""
    with pytest.raises(EngineElsewhere, match=words):
        same_machine.check(client(SecurityOptions=["name=cgroupns", f"name={option}"]))
