"""Whether containers can use this machine's GPUs, tried with the image itself."""

import os
import subprocess
from typing import TYPE_CHECKING

from samerun.core import contract
from samerun.core.errors import NoGpu
from samerun.host.container import process, start_errors
from samerun.host.container.spec import ContainerSpec
from samerun.host.image import identity
from samerun.host.launch import devices
from samerun.host.machine import cuda, engine, gpus, user
from samerun.host.machine.gpus import Present, Selection

if TYPE_CHECKING:
    from docker import DockerClient

TIMEOUT_S = 120
# Asks the driver itself, without torch, and prints what is wrong.
PROBE = """
import ctypes, sys
try:
    driver = ctypes.CDLL("libcuda.so.1")
except OSError as error:
    sys.exit(f"libcuda.so.1 can't be loaded ({error})")
code = driver.cuInit(0)
if code:
    sys.exit(f"cuInit returns error {code}")
number = ctypes.c_int()
driver.cuDeviceGetCount(ctypes.byref(number))
print(number.value)
"""
# The errors of CUDA that have one cause each.
REMEDIES = {
    "error 100": "The container has no GPU device: renew the CDI specification with `sudo "
    "systemctl restart nvidia-cdi-refresh`, or restart the engine.",
    "error 802": "These GPUs are linked by NVSwitch, which needs its service: `sudo systemctl "
    "enable --now nvidia-fabricmanager`, of the driver's version.",
    "error 803": "The driver was updated: restart the machine.",
    "libcuda": "The engine gives containers no driver: run `sudo invoke setup`.",
}


def describe(present: Present) -> str:
    """Return one line about the GPUs; empty if there are none."""
    labels = [gpu.label for gpu in present.gpus]
    names = ", ".join(
        f"{labels.count(label)} x {label}" if labels.count(label) > 1 else label
        for label in dict.fromkeys(labels)
    )
    return f"{names}, driver {present.gpus[0].driver}" if names else ""


def without_driver(present: Present) -> str:
    """Return one line about GPUs that have no driver; empty if there are none."""
    if not present.without_driver:
        return ""
    several = present.on_bus > 1
    return f"{present.on_bus} NVIDIA GPU{'s' if several else ''} without a driver"


def check(client: "DockerClient", present: Present, reference: str | None, release: str) -> str:
    """
    Return what is worth saying about usable GPUs; raise if a training could not use them.

    Raises:
        NoGpu, CudaUnsupported: With the cause and the remedy.
    """
    chosen = gpus.select(None, present, engine=engine.inspect(client))
    if reference is None:
        cuda.check_support(chosen.gpus, release, ())
    else:
        devices.check(client, chosen, identity.identify(client, reference), release)
        prove(chosen, reference)
    return " ".join(chosen.notes)


def prove(chosen: Selection, reference: str) -> None:
    """
    Start CUDA in a container as a run would have it.

    Raises:
        NoGpu: It does not come up, or shows fewer GPUs.
    """
    if not chosen.gpus:
        return
    container = _container(chosen, reference)
    try:
        done = subprocess.run(
            container.argv(), capture_output=True, text=True, check=False, timeout=TIMEOUT_S
        )
    except subprocess.TimeoutExpired as error:
        remove = ["docker", "rm", "--force", f"samerun-{container.run}"]
        subprocess.run(remove, capture_output=True, check=False)
        raise NoGpu(
            f"CUDA does not come up in a container within {TIMEOUT_S} s.",
            "Run `nvidia-smi`; restart the machine if it hangs too.",
        ) from error
    if done.returncode == process.CANNOT_START:
        raise start_errors.explain(done.stderr)
    judge(done.returncode, done.stdout, done.stderr, len(chosen.gpus))


def judge(code: int, out: str, err: str, wanted: int) -> None:
    """
    Raise for what `PROBE` found, if it is not *wanted* GPUs.

    Raises:
        NoGpu: With the driver's own error.
    """
    said = (err.strip().splitlines() or ["no message"])[-1]
    if code:
        remedy = next((text for key, text in REMEDIES.items() if key in said), "")
        raise NoGpu(
            f"CUDA does not come up in a container: {said}.",
            remedy or "Look the error up in CUDA's list of CUresult, and run `nvidia-smi`.",
        )
    if out.strip() != str(wanted):
        raise NoGpu(
            f"CUDA shows {out.strip() or 'no'} of {wanted} GPUs in a container.",
            REMEDIES["error 100"],
        )


def _container(chosen: Selection, reference: str) -> ContainerSpec:
    uid, gid = user.of_container()
    return ContainerSpec(
        run=f"doctor-{os.getpid()}",
        image=reference,
        user=f"{uid}:{gid}",
        target="",
        arguments=("-P", "-c", PROBE),
        procs=1,
        seed=contract.DEFAULT_SEED,
        shm_size="64m",
        mounts=(),
        environment=chosen.variables(),
        gpus=chosen.flag,
        network="none",
        entrypoint="python",
        detach=False,
    )
