"""How much of the machine's memory a run may take."""

from samerun.core.hardware import memory_bytes


def memory_limit(asked: str | None) -> str | None:
    """
    Return a run's limit as Docker takes it; None without one.

    By default nine tenths of the machine: what a run loses, it loses itself, while
    without a limit the kernel stops whatever is largest on the whole machine.
    """
    if asked is None:
        return f"{memory_bytes() * 9 // 10 // 2**20}m"
    return None if asked.rstrip("bkmgBKMG").strip("0") == "" else asked
