"""Log tables and artifacts without waiting for W&B's server."""

from __future__ import annotations

import atexit
import contextlib
import queue
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

from samerun.callback.warn import Warner

# Tables of as many epochs may wait for a server that does not answer.
_MOST_WAITING = 32
# How long the end of a run waits for what is still on its way.
_LAST_PATIENCE_S = 30.0

Act = Callable[[], Any]


class Late(Exception):
    """The run ended before this could be sent."""


class Courier:
    """
    Run what asks the server something, and wait for it only as long as training can afford.

    ``run.log`` of a table and ``run.log_artifact`` ask the server for the artifact's type; with
    a server that is gone wandb 0.31 tries again for minutes. After *patience_s* the training
    goes on, and what is left follows from a thread, in order, once the server answers. When the
    run ends it is waited for once more; nothing is sent after the end of the run, for
    ``wandb sync`` reads no further.

    Args:
        run: The run.
        warner: Tells what could not be logged.
        threaded: False where no server is asked: everything is done at once.
        patience_s: Seconds to wait for the first answer that is late.
    """

    def __init__(self, run: Any, warner: Warner, *, threaded: bool, patience_s: float) -> None:
        self._run, self._warner = run, warner
        self._threaded, self._patience_s = threaded, patience_s
        self._jobs: queue.Queue[Callable[[], None] | None] = queue.Queue(_MOST_WAITING)
        self._thread: threading.Thread | None = None
        self._late = self._told = False
        # What has not been handed to W&B yet; what it makes of it is another matter.
        self._unsent, self._sent = 0, threading.Condition()

    def send(self, subject: str, act: Act, after: Act = lambda: None) -> None:
        """
        Call *act*, and then *after*; nobody waits for the latter.

        Args:
            subject: What is lost if one of them fails, for the warning.
            act: What to do.
            after: A function that waits until it arrived, such as ``artifact.wait``.
        """
        if not self._threaded:
            with self._warner.guarded(subject):
                act()
            return
        done = threading.Event()
        with self._sent:
            self._unsent += 1
        self._put(lambda: self._do(subject, act, after, done))
        if not self._late and not done.wait(self._patience_s):
            self._late = self._told = True
            self._warner.once(
                "server",
                "W&B's server does not answer. Training goes on; samples, charts and models "
                "follow if it answers before the run ends, rows in any case.",
            )

    def close(self) -> None:
        """Let the thread end when everything is sent; do not wait for it."""
        if self._thread is not None:
            self._put(None)

    def wait(self, seconds: float) -> None:
        """Wait at most *seconds* until W&B has all."""
        with self._sent:
            self._sent.wait_for(lambda: self._unsent == 0, timeout=seconds)

    def is_current(self) -> bool:
        """Say whether this is the thread that sends."""
        return threading.current_thread() is self._thread

    def _put(self, job: Callable[[], None] | None) -> None:
        if self._thread is None:
            # A daemon: a program must be able to end while the server is away.
            self._thread = threading.Thread(target=self._work, name="samerun-wandb", daemon=True)
            with contextlib.suppress(Exception):  # other internals than those of wandb 0.31
                _Gate.of(self._run).admit(self)
            self._thread.start()
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            self._note_sent()
            self._warner.once("samples", "W&B did not get all prediction samples: too many wait.")

    def _do(self, subject: str, act: Act, after: Act, done: threading.Event) -> None:
        try:
            # What the server never took was warned of when it was late.
            with contextlib.suppress(Exception) if self._told else self._warner.guarded(subject):
                try:
                    act()
                finally:
                    self._note_sent()
                done.set()
                with contextlib.suppress(Late):  # the end of the run waits for uploads itself
                    after()
        finally:
            done.set()
            self._late = self._late and not self._jobs.empty()

    def _note_sent(self) -> None:
        with self._sent:
            self._unsent -= 1
            self._sent.notify_all()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()


class _Gate:
    """
    Let no record of a courier's thread into the log of a run that has ended.

    wandb 0.31 looks whether the run is finished as a call begins; one that waits for the
    server meanwhile would write its row after the record of the run's end.
    """

    def __init__(self, run: Any) -> None:
        self._couriers: list[Courier] = []
        self._lock, self._is_shut = threading.Lock(), False
        for name in ("_publish", "_deliver"):
            setattr(run._interface, name, self._guarding(getattr(run._interface, name)))

    @classmethod
    def of(cls, run: Any) -> _Gate:
        """Return the gate of *run*, which shuts as the run ends, or the program."""
        from wandb.sdk.wandb_run import TeardownHook, TeardownStage

        if run not in _gates:
            gate = _gates[run] = cls(run)
            run._teardown_hooks.append(TeardownHook(gate.shut, TeardownStage.EARLY))
            # Registered after wandb's own handler, so it is called before that.
            atexit.register(gate.shut)
        return _gates[run]

    def admit(self, courier: Courier) -> None:
        """Let *courier* through until the run ends."""
        self._couriers.append(courier)

    def shut(self) -> None:
        """Wait a while for what is on its way, then let nothing through."""
        atexit.unregister(self.shut)
        until = time.monotonic() + _LAST_PATIENCE_S
        for courier in self._couriers:
            courier.wait(max(0.0, until - time.monotonic()))
        with self._lock:
            self._is_shut = True

    def _guarding(self, send: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(record: Any, **options: Any) -> Any:
            if not any(courier.is_current() for courier in self._couriers):
                return send(record, **options)
            with self._lock:
                if self._is_shut:
                    raise Late
                return send(record, **options)

        return guarded


_gates: weakref.WeakKeyDictionary[Any, _Gate] = weakref.WeakKeyDictionary()
