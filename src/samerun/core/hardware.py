"""The machine of a run for its record, seen from the host or from the container."""

import os
import platform
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from samerun.core.record import Hardware


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """One NVIDIA GPU as its driver describes it."""

    index: int
    name: str
    driver: str
    capability: str


def probe() -> tuple[Gpu, ...]:
    """Return this machine's GPUs; empty if nvidia-smi is missing or fails."""
    query = "--query-gpu=index,name,driver_version,compute_cap"
    command = ["nvidia-smi", query, "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    # OSError: PATH may contain folders that this user can't read.
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return parse(done.stdout) if done.returncode == 0 else ()


def parse(text: str) -> tuple[Gpu, ...]:
    """Parse nvidia-smi's lines: index, name, driver, compute capability."""
    rows = [[cell.strip() for cell in line.split(",")] for line in text.splitlines() if line]
    return tuple(Gpu(index=int(r[0]), name=r[1], driver=r[2], capability=r[3]) for r in rows)


def describe(gpus: Sequence[Gpu], engine: str, host: str | None = None) -> Hardware:
    """Return CPU, memory, kernel and the GPUs in use; *host* is the machine's name."""
    return Hardware(
        cpu=_cpu(),
        cores=os.cpu_count() or 1,
        memory_bytes=memory_bytes(),
        kernel=platform.release(),
        engine=engine,
        gpus=tuple(f"{gpu.name} ({gpu.capability})" for gpu in gpus),
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
