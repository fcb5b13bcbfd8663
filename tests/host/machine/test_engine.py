import pytest

from samerun.host.machine import engine

VERSION = {"ApiVersion": "1.54", "Components": [{"Name": "Engine"}, {"Name": "containerd"}]}


def facts(version=VERSION, **info):
    return engine.from_answers({"ServerVersion": "29.4.0", **info}, version)


@pytest.fixture(autouse=True)
def no_hooks(tmp_path, monkeypatch):
    """A PATH without the toolkit."""
    monkeypatch.setenv("PATH", str(tmp_path))


def test_an_engine_gives_out_gpus_by_the_runtime_or_by_cdi():
    """Engine 29 needs no runtime, if it found a specification."""
    cdi = [{"Source": "cdi", "ID": f"nvidia.com/gpu={name}"} for name in ("0", "GPU-1", "all")]

    assert not facts(Runtimes={"runc": {}}).serves_gpus
    assert facts(Runtimes={"nvidia": {}, "runc": {}}).serves_gpus
    assert facts(DiscoveredDevices=cdi).cdi_gpus == ("0", "GPU-1", "all")
    assert facts(DiscoveredDevices=cdi).serves_gpus


@pytest.mark.parametrize("info", [{"DiscoveredDevices": None}, {"DiscoveredDevices": [{}]}])
def test_other_devices_are_no_gpus(info):
    """Engines before 28.3 list none, later ones also those of others."""
    assert not facts(**info).serves_gpus
    assert not facts(DiscoveredDevices=[{"Source": "cdi", "ID": "amd.com/gpu=0"}]).serves_gpus


def test_an_engine_that_may_use_a_hook_is_tried(tmp_path):
    """Engines before 29 look for it at their start, and say nowhere that they have it."""
    (tmp_path / "nvidia-container-runtime-hook").write_text("#!/bin/sh\n")
    (tmp_path / "nvidia-container-runtime-hook").chmod(0o755)

    assert facts().serves_gpus


def test_rootless_engines_and_podman_are_told_apart():
    """Their remedies differ from those of Docker."""
    podman = {"ApiVersion": "1.41", "Components": [{"Name": "Podman Engine"}]}

    assert facts().kind == "docker"
    assert facts(SecurityOptions=["name=seccomp", "name=rootless"]).kind == "rootless"
    assert facts(podman).kind == "podman"
