"""NVIDIA GPUs on the PCI bus, which are visible there even without a driver."""

from pathlib import Path

DEVICES = Path("/sys/bus/pci/devices")
NVIDIA = "0x10de"
# Display controllers: VGA-compatible, 3D, and others.
DISPLAY = "0x03"


def nvidia_gpus() -> int:
    """Return the number of NVIDIA GPUs on the PCI bus; a WSL2 machine shows none there."""
    try:
        devices = list(DEVICES.iterdir())
    except OSError:
        return 0
    return sum(_reads(d / "vendor", NVIDIA) and _reads(d / "class", DISPLAY) for d in devices)


def _reads(path: Path, start: str) -> bool:
    try:
        return path.read_text(encoding="ascii", errors="replace").startswith(start)
    except OSError:
        return False
