"""The memory limit of a run."""

from samerun.core.hardware import memory_bytes


def memory_limit(size: str | None) -> str | None:
    """
    Return a run's limit in Docker's syntax; None for no limit.

    The default is 90 % of the machine's memory: a run that exceeds it is killed itself. With
    no limit, the kernel would kill the largest process of the whole machine.
    """
    if size is None:
        return f"{memory_bytes() * 9 // 10 // 2**20}m"
    return None if size.rstrip("bkmgBKMG").strip("0") == "" else size
