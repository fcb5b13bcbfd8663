"""
Start one worker per process with torch's own launcher, and keep exit codes exact.

``torchrun`` exits 1 whatever its workers exited with, so its library is used instead
of its command line: the error names the first rank that failed, and how.
"""

import sys
import uuid
from collections.abc import Sequence
from typing import Any

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from samerun.train.nodes import Nodes

# All machines of a job start within this time, or none trains.
MEETING_TIMEOUT_S = 600
ALONE = Nodes()


def launch(procs: int, command: Sequence[str], nodes: Nodes = ALONE) -> int:
    """
    Run *command* (arguments of Python) in *procs* processes; return the exit code.

    With several *nodes* these are the processes of this one; all meet at the first.
    """
    config = LaunchConfig(
        min_nodes=nodes.count,
        max_nodes=nodes.count,
        nproc_per_node=procs,
        # Machines of one job must name it alike.
        run_id=uuid.uuid4().hex if nodes.count == 1 else nodes.rdzv,
        rdzv_backend="c10d",
        rdzv_endpoint=nodes.rdzv or "127.0.0.1:0",
        rdzv_configs=_meeting(nodes),
        # Without it the launcher resolves its own host name, which hangs where the
        # container has no network.
        local_addr="127.0.0.1" if nodes.count == 1 else None,
        max_restarts=0,
    )
    try:
        elastic_launch(config, sys.executable)("-u", *command)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        sys.stderr.write(f"samerun: rank {rank} failed first: {_how(failure.exitcode)}.\n")
        return exit_code(failure.exitcode)
    except SignalException as error:
        return 128 + int(error.sigval)
    return 0


def _meeting(nodes: Nodes) -> dict[str, Any]:
    """Return the rendezvous' settings: the first machine serves it, whatever it is called."""
    if nodes.count == 1:
        return {}
    return {"is_host": nodes.rank == 0, "join_timeout": MEETING_TIMEOUT_S}


def exit_code(code: int) -> int:
    """Turn a subprocess's return code into a shell's: signal n is 128 + n."""
    return 128 - code if code < 0 else code


def _how(code: int) -> str:
    return f"killed by signal {-code}" if code < 0 else f"exit code {code}"
