"""The machine of a run for its record, seen from the host or from the container."""

import os
import platform
import re
from collections.abc import Sequence
from pathlib import Path

from samerun.core import nvidia_smi
from samerun.core.nvidia_smi import Gpu
from samerun.core.record import Hardware


def probe() -> tuple[Gpu, ...]:
    """Return the GPUs that nvidia-smi lists; see `nvidia_smi.query` for what else it says."""
    return nvidia_smi.query().gpus


def describe(gpus: Sequence[Gpu], engine: str, host: str | None = None) -> Hardware:
    """Return CPU, memory, kernel and the GPUs in use; *host* is the machine's name."""
    return Hardware(
        cpu=_cpu(),
        cores=os.cpu_count() or 1,
        memory_bytes=memory_bytes(),
        kernel=platform.release(),
        engine=engine,
        gpus=tuple(gpu.label for gpu in gpus),
        driver=gpus[0].driver if gpus else None,
        host=platform.node() if host is None else host,
    )


def _cpu() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    match = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return match[1] if match else platform.machine()


def threads_per_process(procs: int) -> int:
    """Return the cores that this process may use, shared by *procs*; at least 1."""
    return max(1, len(os.sched_getaffinity(0)) // procs)


def memory_bytes() -> int:
    """Return the machine's memory in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
