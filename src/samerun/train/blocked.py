"""
Free a process that waits in a collective for a rank that is gone.

With NCCL the other ranks learn nothing of a failed one: they wait in CUDA, where no handler of
SIGTERM runs. The launcher would kill them, and the rows that rank 0 has not handed to W&B yet
would be lost. So a thread hears the signal and aborts the process groups. The main thread then gets
an exception, and the training ends as after any other one.
"""

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

from samerun.core import contract
from samerun.core.errors import CommunicationFailed
from samerun.train.report import reporting
from samerun.train.report.quiet import quietly

# A batch mostly ends within this time if all ranks are there.
PATIENCE_S = 2.0
# What W&B gets to close its run, before the launcher kills this process.
CLOSING_S = 15.0
_STOPS = {int(signal.SIGTERM), int(signal.SIGINT)}
_aborted = threading.Event()
_sockets: list[socket.socket] = []


def watch() -> None:
    """
    Start the thread if this process is one of several; call it in the main thread.

    It acts `PATIENCE_S` after a signal to stop if a rank of this machine is gone, and in any case
    `CLOSING_S` before the launcher kills.
    """
    if reporting.processes() == 1:
        return
    hearing, told = socket.socketpair()
    told.setblocking(False)
    _sockets.extend((hearing, told))
    # Python writes the signal's number there at once, whatever the main thread does.
    signal.set_wakeup_fd(told.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_listen, args=(hearing,), daemon=True, name="samerun-blocked").start()


def check() -> None:
    """
    Raise the error in the handler of a signal, if the process groups were aborted.

    The wait in CUDA just ends then, with wrong gradients; so this must come before the next step.

    Raises:
        CommunicationFailed: They were.
    """
    if _aborted.is_set():
        what = f"Rank {reporting.rank()} waited for another rank that is gone or did not answer."
        raise CommunicationFailed(what, "The rank that failed first has the cause.")


def _listen(hearing: socket.socket) -> None:
    """Wait for a signal to stop, then for the end of the process, which may not come."""
    while not _STOPS & set(hearing.recv(64)):
        pass
    last = time.monotonic() + stop_s() - CLOSING_S
    time.sleep(PATIENCE_S)
    while not peer_is_gone() and time.monotonic() < last:
        time.sleep(0.2)
    if has_nccl():
        quietly("end the waiting for other ranks", _end_waiting)


def has_nccl() -> bool:
    """
    Whether this process has a group of NCCL, whose ranks can wait for each other for ever.

    Those of gloo get an error when one is gone.
    """
    distributed = with_groups()
    return distributed is not None and "nccl" in str(distributed.get_backend())


def with_groups() -> Any:
    """Return the module `torch.distributed`; None if this process has no process group."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return None
    return distributed


def _end_waiting() -> None:
    _aborted.set()
    # The handler runs in the main thread as soon as that is back from CUDA.
    os.kill(os.getpid(), signal.SIGTERM)
    abort_groups()


def abort_groups() -> None:
    """Abort all process groups; only NCCL's can be."""
    sys.modules["torch.distributed.distributed_c10d"]._abort_process_group()


def stop_s() -> int:
    """Return the seconds that the launcher gives its workers to stop."""
    asked = os.environ.get("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "")
    return int(asked) if asked.isdecimal() else contract.WORKERS_STOP_S


def peer_is_gone() -> bool:
    """Whether another rank has reported its failure, or a process of this machine has ended."""
    return _has_reported() or _living_siblings() < int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def _has_reported() -> bool:
    if not reporting.is_recorded():
        return False
    own = f"failure-{reporting.rank()}.json"
    reports = (reporting.folder() / contract.PARTS).glob("failure-*.json")
    return any(path.name != own for path in reports)


def _living_siblings() -> int:
    """Return how many children of the launcher live, this process among them."""
    parent = os.getppid()
    with contextlib.suppress(OSError):
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        return sum(map(_lives, children))
    # Some kernels have no such file.
    return sys.maxsize


def _lives(pid: str) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"
