"""
Start one worker per process with torch's launcher, and keep exit codes exact.

``torchrun`` exits with 1 for every failure of its workers, so its library is used instead of
its command line: the error has the first rank that failed, and its exit code. With several
nodes, the launcher is a separate process: ``python -m samerun.train.launcher``.
"""

import os
import sys
import uuid
from collections.abc import Sequence
from typing import Any

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from samerun.core import contract
from samerun.core.placement import NodePlacement
from samerun.train.report import reporting
from samerun.train.report.quiet import quietly


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
        rank, failure = error.get_first_failure()
        if failure.exitcode == contract.EXIT_PREEMPTED:
            return contract.EXIT_PREEMPTED
        # With several nodes, this is the first on this node; node 0 reports the first of all.
        first = "" if place else " first"
        sys.stderr.write(f"samerun: rank {rank} failed{first}: {_how(failure.exitcode)}.\n")
        if failure.exitcode < 0:
            quietly("report the failure", _report_killed, rank, failure.exitcode)
        return exit_code(failure.exitcode)
    except SignalException as error:
        # The workers' exit codes are lost at this point, but not their reports.
        stopped = reporting.preempted()
        return contract.EXIT_PREEMPTED if stopped else 128 + int(error.sigval)
    return 0


def _report_killed(rank: int, code: int) -> None:
    failure = {"kind": "killed", "rank": rank, "what": f"signal {-code}", "where": None}
    # Other ranks may have reported the lost connection earlier; time 0 is before that.
    reporting.report(f"failure-{rank}", {**failure, "time": 0.0})


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
    asked = os.environ.get("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "")
    seconds = int(asked) if asked.isdecimal() else contract.WORKERS_STOP_S
    # Older releases of torch have no such setting.
    has_setting = "shutdown_timeout" in LaunchConfig.__dataclass_fields__
    return {"shutdown_timeout": seconds} if has_setting else {}


def exit_code(code: int) -> int:
    """Convert a subprocess's return code to a shell's: signal n is 128 + n."""
    return 128 - code if code < 0 else code


def _how(code: int) -> str:
    return f"killed by signal {-code}" if code < 0 else f"exit code {code}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
