"""
The store that node 0 serves at the rendezvous address, and a node's connection to it.

It is torch's TCPStore, because every node has torch; the values are JSON.
"""

import json
import socket
import threading
import time
from datetime import timedelta
from typing import Any

from samerun.core.errors import RendezvousFailed
from samerun.core.placement import NodePlacement

BEAT_S = 0.25
# The same as torch's rendezvous: three heartbeats of five seconds each.
SILENCE_S = 15.0
# A call that is under way ends by then, unless node 0 vanished in the midst of it.
PARTING_S = 5.0


class Lost(Exception):
    """Node 0 no longer responds."""


class Store:
    """The shared store; each thread that waits needs its own instance."""

    def __init__(self, nodes: NodePlacement, *, serves: bool = False) -> None:
        if not serves:
            _await_port(nodes)
        try:
            self._store = _open(nodes, serves=serves)
        except (RuntimeError, ValueError, TimeoutError) as error:
            # DistError is a RuntimeError; its message ends with a C++ stack trace.
            what = str(error).splitlines()[0] if str(error) else repr(error)
            raise RendezvousFailed(_unreachable(nodes, what), _remedy(nodes)) from None

    def put(self, key: str, value: Any) -> None:
        """Write *value*, which must be JSON-serializable."""
        self._call("set", f"samerun/{key}", json.dumps(value))

    def put_first(self, key: str, value: Any) -> Any:
        """Write *value* if the key is new; return the stored value."""
        return json.loads(self._call("compare_set", f"samerun/{key}", "", json.dumps(value)))

    def get(self, key: str) -> Any:
        """Return the stored value; None if there is none."""
        name = f"samerun/{key}"
        return json.loads(self._call("get", name)) if self.has(key) else None

    def has(self, key: str) -> bool:
        """Whether the key has a value."""
        return bool(self._call("check", [f"samerun/{key}"]))

    def count(self, key: str, more: int = 0) -> int:
        """Add *more* to a counter, and return it."""
        return int(self._call("add", f"samerun/{key}", more))

    def _call(self, name: str, *arguments: Any) -> Any:
        try:
            return getattr(self._store, name)(*arguments)
        except RuntimeError as error:
            raise Lost(str(error).partition("\n")[0]) from None


def _open(nodes: NodePlacement, *, serves: bool) -> Any:
    """Open torch's store with a time limit, since its own fails if another program listens."""
    from torch.distributed import TCPStore

    result: list[Any] = []

    def make() -> None:
        limit = timedelta(seconds=nodes.timeout_s)
        try:
            result.append(
                TCPStore(*nodes.address, is_master=serves, wait_for_workers=False, timeout=limit)
            )
        except (RuntimeError, ValueError) as error:
            result.append(error)

    thread = threading.Thread(target=make, daemon=True)
    thread.start()
    thread.join(nodes.timeout_s + SILENCE_S)
    if not result:
        raise TimeoutError("another program listens there")
    if isinstance(result[0], Exception):
        raise result[0]
    return result[0]


def _await_port(nodes: NodePlacement) -> None:
    """Wait until node 0 listens; torch's waiting would fill the log with C++ stack traces."""
    ends = time.monotonic() + nodes.timeout_s
    while True:
        try:
            socket.create_connection(nodes.address, timeout=5).close()
        except OSError as error:
            if time.monotonic() > ends:
                what = _unreachable(nodes, error.strerror or str(error))
                raise RendezvousFailed(what, _remedy(nodes)) from None
            time.sleep(0.2)
        else:
            return


def _unreachable(nodes: NodePlacement, what: str) -> str:
    if nodes.rank == 0:
        return f"Node 0 can't serve the rendezvous at {nodes.endpoint}: {what}."
    return f"Node 0 did not respond at {nodes.endpoint} within {nodes.timeout_s} s: {what}."


def _remedy(nodes: NodePlacement) -> str:
    if nodes.rank == 0:
        return "Set --rdzv to an address of node 0 itself, with a free port."
    return (
        "Check that node 0 is started, and that its firewall accepts this port and those of NCCL "
        "or gloo."
    )


class Pulse(threading.Thread):
    """
    Sends heartbeats to the store, and reads node 0's messages from it.

    A thread with its own connection: if node 0 vanishes without closing the connection, a call
    blocks until the kernel gives up, and the training must not wait for that.
    """

    def __init__(self, store: Store, identity: str) -> None:
        super().__init__(daemon=True)
        self._store, self._identity = store, identity
        self._keys: tuple[str, ...] = ()
        self._heard: dict[str, Any] = {}
        self._answered, self._broken = time.monotonic(), False
        self._ended = threading.Event()

    def run(self) -> None:
        """Send heartbeats until `end`, or until node 0 is lost."""
        try:
            while not self._ended.is_set():
                self._store.count(f"beat/{self._identity}", 1)
                for key in self._keys:
                    if key not in self._heard and (value := self._store.get(key)) is not None:
                        self._heard[key] = value
                self._answered = time.monotonic()
                self._ended.wait(BEAT_S)
        except Lost:
            self._broken = True

    def end(self) -> None:
        """Stop: a call of torch's that returns after the interpreter's end aborts the process."""
        self._ended.set()
        self.join(PARTING_S)

    def listen(self, *keys: str) -> None:
        """Listen for these keys from now on."""
        self._keys = keys

    def heard(self, key: str) -> Any:
        """
        Return node 0's message under *key*; None if there is none yet.

        Raises:
            Lost: There is none, and node 0 is lost.
        """
        if key in self._heard:
            return self._heard[key]
        if self._broken or time.monotonic() - self._answered > SILENCE_S:
            raise Lost
        return None
