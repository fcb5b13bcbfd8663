"""What nvidia-smi prints on real machines: the query's rows, and everything else that it says."""

from samerun.core import nvidia_smi
from samerun.host.machine.gpus import Present

UUID = "GPU-5c89852c-d268-c3f3-1b07-005d5ae1dc3"


def row(index, name, capability, *, driver="580.65.06", mig="Disabled", total=40960, used=4):
    return f"{index}, {name}, {driver}, {capability}, {UUID}{index}, {mig}, {total}, {used}\n"


TWO = "".join(row(n, "NVIDIA A100-SXM4-40GB", "8.0") for n in range(2))
EIGHT = "".join(row(n, "NVIDIA H100 80GB HBM3", "9.0", total=81559, used=1) for n in range(8))
BUSY = row(0, "NVIDIA L40S", "8.9", total=46068, used=31200) + "".join(
    row(n, "NVIDIA L40S", "8.9", total=46068, used=3) for n in (1, 2)
)
MIXED = row(0, "NVIDIA GeForce RTX 3090", "8.6", total=24576, mig="[N/A]") + row(
    1, "NVIDIA GeForce RTX 4090", "8.9", total=24564, mig="[N/A]"
)
VGPU = row(0, "NVIDIA A10-24Q", "[N/A]", driver="550.54.14", mig="[N/A]", total="[N/A]", used=0)
WSL = row(0, "NVIDIA GeForce RTX 4090", "8.9", driver="581.29", mig="[N/A]", used=512)
P100 = row(0, "Tesla P100-PCIE-16GB", "6.0", mig="[N/A]", total=16384)
V100 = row(0, "Tesla V100-SXM2-16GB", "7.0", mig="[N/A]", total=16384)
DRIVER_535 = row(0, "Tesla T4", "7.5", driver="535.183.01", mig="[N/A]", total=15360)

MIG = row(0, "NVIDIA A100-SXM4-40GB", "8.0", mig="Enabled")
INSTANCES = ("MIG-83e1c8c4-8b13-5e2f-9c1e-0d3b8a5b4bfd", "MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f")
MIG_LIST = f"""GPU 0: NVIDIA A100-SXM4-40GB (UUID: {UUID}0)
  MIG 3g.20gb     Device  0: (UUID: {INSTANCES[0]})
  MIG 3g.20gb     Device  1: (UUID: {INSTANCES[1]})
"""

# Each with the exit code of nvidia-smi.
MISMATCH = (
    "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 580.95\n",
    18,
)
UNREACHABLE_TEXT = (
    "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure "
    "that the latest NVIDIA driver is installed and running.\n\n"
)
UNREACHABLE = (UNREACHABLE_TEXT, 9)
LOST_TEXT = (
    "Unable to determine the device handle for GPU0000:E4:00.0: GPU is lost.  Reboot the system "
    "to recover this GPU\n"
)
LOST = (LOST_TEXT, 15)
SEVEN_OF_EIGHT = ("".join(EIGHT.splitlines(keepends=True)[:7]) + LOST[0], 0)
ROW_OF_A_LOST_ONE = (TWO + "2, [GPU is lost], 580.65.06, [Unknown Error], [N/A], [N/A], 0, 0\n", 0)
INFOROM = (TWO + "WARNING: infoROM is corrupted at gpu 0000:65:00.0\n", 14)
NONE_FOUND = ("No devices were found\n", 6)
NONE_FOUND_AND_FINE = ("No devices were found\n", 0)
# Driver 470 knows no compute_cap, and answers the second question.
NO_FIELD = ('Field "compute_cap" is not a valid field to query.\n\n', 2)
OLD_ROW = f"0, Tesla V100-SXM2-16GB, 470.199.02, {UUID}0, 16160, 0\n"
FAILURES = (MISMATCH, UNREACHABLE, LOST, NONE_FOUND, NONE_FOUND_AND_FINE)


def present(text, code=0, *, listed="", **limits):
    """A machine whose nvidia-smi prints *text*."""
    found = nvidia_smi.parse(text.splitlines(), code)
    gpus = nvidia_smi.with_instances(found.gpus, listed.splitlines())
    return Present(gpus=gpus, trouble=found.trouble, is_failure=found.is_failure, **limits)
