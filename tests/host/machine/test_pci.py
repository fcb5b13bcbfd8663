import pytest

from samerun.host.machine import gpus, pci


def device(folder, address, vendor, kind):
    path = folder / address
    path.mkdir()
    (path / "vendor").write_text(f"{vendor}\n")
    (path / "class").write_text(f"{kind}\n")


@pytest.fixture
def bus(tmp_path, monkeypatch):
    """A PCI bus as sysfs shows it."""
    folder = tmp_path / "bus"
    folder.mkdir()
    monkeypatch.setattr(pci, "DEVICES", folder)
    return folder


def test_nvidia_display_controllers_are_gpus(bus):
    """Not their sound and USB, nor other makers' cards."""
    device(bus, "0000:01:00.0", "0x10de", "0x030000")
    device(bus, "0000:01:00.1", "0x10de", "0x040300")
    device(bus, "0000:02:00.0", "0x10de", "0x030200")
    device(bus, "0000:03:00.0", "0x8086", "0x030000")
    (bus / "0000:04:00.0").mkdir()

    assert pci.nvidia_gpus() == 2


def test_a_machine_without_a_bus_has_none(monkeypatch, tmp_path):
    """WSL2, and some containers."""
    monkeypatch.setattr(pci, "DEVICES", tmp_path / "absent")

    assert pci.nvidia_gpus() == 0


def test_a_card_without_nvidia_smi_has_no_driver(bus, monkeypatch, tmp_path):
    """The case of a fresh machine in a cloud."""
    device(bus, "0000:01:00.0", "0x10de", "0x030200")
    monkeypatch.setenv("PATH", str(tmp_path))

    assert gpus.look().without_driver
