"""
Start one worker per process with torch's launcher, and keep exit codes exact.

``torchrun`` exits with 1 for every failure of its workers, so its library is used instead of
its command line: the error has the first rank that failed, and its exit code. With several
nodes, the launcher is a separate process: ``python -m samerun.train.launcher``.
"""

import signal
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from samerun.core import contract, parts
from samerun.core.placement import NodePlacement
from samerun.train import blocked
from samerun.train.report import reporting
from samerun.train.report.quiet import quietly

# Exit codes and signals; not 0.
_CODES = (*range(-64, 0), *range(1, 256))
SIGBUS_REMEDY = "Shared memory was probably full: give the container more (`--shm-size 8g`)."


def command(procs: int, place: NodePlacement, worker: Sequence[str]) -> list[str]:
    """Return the command line that launches *worker* as *procs* processes at *place*."""
    numbers = map(str, (procs, place.rank, place.count, place.timeout_s))
    return [sys.executable, "-Pu", "-m", __name__, *numbers, place.endpoint, *worker]


def main(argv: Sequence[str]) -> int:
    """Launch the workers for the arguments from `command`."""
    procs, rank, count, timeout = map(int, argv[:4])
    place = NodePlacement(count=count, rank=rank, endpoint=argv[4], timeout_s=timeout)
    return launch(procs, argv[5:], place)


def launch(procs: int, worker: Sequence[str], place: NodePlacement | None = None) -> int:
    """Run *worker* (arguments of Python) in *procs* processes; return the exit code."""
    config = configure(procs, place or NodePlacement())
    try:
        elastic_launch(config, sys.executable)("-Pu", *worker)
    except ChildFailedError as error:
        return _report_first(error, is_only_node=not place)
    except SignalException as error:
        # The workers' exit codes are lost at this point, but not their reports.
        stopped = reporting.preempted()
        return contract.EXIT_PREEMPTED if stopped else 128 + int(error.sigval)
    return 0


def _report_first(error: ChildFailedError, *, is_only_node: bool) -> int:
    """Report processes that can't do it, print which failed first, and return its exit code."""
    codes = _suspects(error)
    if contract.EXIT_PREEMPTED in codes.values():
        return contract.EXIT_PREEMPTED
    for rank, code in codes.items():
        quietly("report the failure", _report_end, rank, code)
    rank, code = _first(codes, quietly("read the failures", _cause) or {})
    # With several nodes, this is the first on this node; node 0 reports the first of all.
    first = " first" if is_only_node else ""
    sys.stderr.write(f"samerun: rank {rank} failed{first}: {_how(code)}.\n")
    return exit_code(code)


def _suspects(error: ChildFailedError) -> dict[int, int]:
    """
    Return the exit codes of the ranks that ended before the launcher stopped the others.

    torch looks after the processes ten times a second, so several can be found at once, and it
    counts those that it stopped itself as failures, too.
    """
    first, failure = error.get_first_failure()
    found_with = failure.timestamp + 1  # seconds
    return {
        rank: one.exitcode
        for rank, one in error.failures.items()
        if rank == first or (one.timestamp <= found_with and one.exitcode != -signal.SIGTERM)
    }


def _cause() -> dict[str, Any] | None:
    return parts.cause_of_failure(reporting.folder()) if reporting.is_recorded() else None


def _first(codes: Mapping[int, int], cause: Mapping[str, Any]) -> tuple[int, int]:
    """Return rank and code of the process that failed first: that of the *cause*, if known."""
    rank, code = cause.get("rank"), cause.get("code")
    if isinstance(rank, int) and isinstance(code, int) and code in _CODES:
        return rank, code
    first = min(codes, key=lambda rank: codes[rank] >= 0)
    return first, codes[first]


def _report_end(rank: int, code: int) -> None:
    """Report a process that was killed, or that ended without an exception."""
    failure = {"kind": "killed" if code < 0 else "exit", "rank": rank, "where": None}
    failure |= {"what": f"signal {-code}" if code < 0 else f"exit code {code}", "code": code}
    failure |= {"remedy": SIGBUS_REMEDY if code == -signal.SIGBUS else None}
    if code >= 0 and reporting.has_failed(rank):
        return
    # Other ranks may have reported the lost connection earlier; time 0 is before that. But NCCL's
    # watchdog ends a process with SIGABRT because of another.
    is_first = code < 0 and code != -signal.SIGABRT
    reporting.report(f"failure-{rank}", {**failure, "time": 0.0 if is_first else time.time()})


def configure(procs: int, place: NodePlacement) -> LaunchConfig:
    """Return the launcher's settings for this node."""
    if not place.endpoint:
        return LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=procs,
            run_id=uuid.uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint="127.0.0.1:0",
            # Otherwise the launcher resolves its own host name, which hangs if the container
            # has no network.
            local_addr="127.0.0.1",
            max_restarts=0,
            **_shutdown(),
        )
    # Static: ranks follow the nodes' ranks, so rank 0, which logs and saves, is on node 0.
    return LaunchConfig(
        min_nodes=place.count,
        max_nodes=place.count,
        nproc_per_node=procs,
        run_id="samerun",
        rdzv_backend="static",
        rdzv_endpoint=place.endpoint,
        rdzv_configs={"rank": place.rank, "timeout": place.timeout_s},
        max_restarts=0,
        **_shutdown(),
    )


def _shutdown() -> dict[str, Any]:
    """Give the workers the time that the container has, instead of 30 s, to write a checkpoint."""
    # Older releases of torch have no such setting.
    has_setting = "shutdown_timeout" in LaunchConfig.__dataclass_fields__
    return {"shutdown_timeout": blocked.stop_s()} if has_setting else {}


def exit_code(code: int) -> int:
    """Convert a subprocess's return code to a shell's: signal n is 128 + n."""
    return 128 - code if code < 0 else code


def _how(code: int) -> str:
    return f"killed by signal {-code}" if code < 0 else f"exit code {code}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
