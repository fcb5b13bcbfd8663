"""Log tables and artifacts without waiting for W&B's server."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Any

from samerun.callback.warn import Warner

# Tables of as many epochs may wait for a server that does not answer.
_MOST_WAITING = 32

Act = Callable[[], Any]


class Courier:
    """
    Run what asks the server something, and wait for it only as long as training can afford.

    ``run.log`` of a table and ``run.log_artifact`` ask the server for the artifact's type; with
    a server that is gone wandb 0.31 tries again for minutes. After *patience_s* the training
    goes on, and what is left follows from a thread, in order, once the server answers.

    Args:
        warner: Tells what could not be logged.
        threaded: False where no server is asked: everything is done at once.
        patience_s: Seconds to wait for the first answer that is late.
    """

    def __init__(self, warner: Warner, *, threaded: bool, patience_s: float) -> None:
        self._warner, self._threaded, self._patience_s = warner, threaded, patience_s
        self._jobs: queue.Queue[Callable[[], None] | None] = queue.Queue(_MOST_WAITING)
        self._thread: threading.Thread | None = None
        self._late = self._told = False

    def send(self, subject: str, act: Act, after: Act = lambda: None) -> None:
        """
        Call *act*, and then *after*; nobody waits for the latter.

        Args:
            subject: What is lost if one of them fails, for the warning.
            act: What to do.
            after: What tells whether it arrived, such as ``artifact.wait``.
        """
        if not self._threaded:
            with self._warner.guarded(subject):
                act()
            return
        done = threading.Event()
        self._put(lambda: self._run(subject, act, after, done))
        if not self._late and not done.wait(self._patience_s):
            self._late = self._told = True
            self._warner.once(
                "server",
                "W&B's server does not answer. Training goes on; samples, charts and models "
                "follow if it answers before the program ends, rows in any case.",
            )

    def close(self) -> None:
        """Let the thread end when everything is sent; do not wait for it."""
        if self._thread is not None:
            self._put(None)

    def _put(self, job: Callable[[], None] | None) -> None:
        if self._thread is None:
            # A daemon: a program must be able to end while the server is away.
            self._thread = threading.Thread(target=self._work, name="samerun-wandb", daemon=True)
            self._thread.start()
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            self._warner.once("samples", "W&B did not get all prediction samples: too many wait.")

    def _run(self, subject: str, act: Act, after: Act, done: threading.Event) -> None:
        try:
            # What the server never took was warned of when it was late.
            with contextlib.suppress(Exception) if self._told else self._warner.guarded(subject):
                act()
                done.set()
                after()
        finally:
            done.set()
            self._late = self._late and not self._jobs.empty()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
