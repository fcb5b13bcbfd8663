"""The machine under the run, as the record keeps it."""

import os
import platform
import re
from collections.abc import Sequence
from pathlib import Path

from samerun.host.gpus import Gpu
from samerun.record import Hardware


def describe(gpus: Sequence[Gpu], engine: str) -> Hardware:
    """Return CPU, memory, kernel and the GPUs in use."""
    return Hardware(
        cpu=_cpu(),
        cores=os.cpu_count() or 1,
        memory_bytes=memory_bytes(),
        kernel=platform.release(),
        engine=engine,
        gpus=tuple(f"{gpu.name} ({gpu.capability})" for gpu in gpus),
        driver=gpus[0].driver if gpus else None,
        host=platform.node(),
    )


def _cpu() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1] if found else platform.machine()


def memory_bytes() -> int:
    """Return the machine's memory in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def memory_limit(asked: str | None) -> str | None:
    """
    Return a run's limit as Docker takes it; None without one.

    By default nine tenths of the machine: what a run loses, it loses itself, while
    without a limit the kernel stops whatever is largest on the whole machine.
    """
    if asked is None:
        return f"{memory_bytes() * 9 // 10 // 2**20}m"
    return None if asked.rstrip("bkmgBKMG").strip("0") == "" else asked
