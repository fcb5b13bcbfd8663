"""A container's output, to the terminal and to the run's log, as it comes."""

import contextlib
import sys
import threading
from typing import TYPE_CHECKING, BinaryIO, TextIO

if TYPE_CHECKING:
    from docker.models.containers import Container

# How long after its end a container's last output may take to come through.
GRACE_S = 3.0


class Copying(threading.Thread):
    """Copies until the container ends; `complete` makes sure that nothing is missing."""

    def __init__(self, container: "Container", log: BinaryIO) -> None:
        super().__init__(daemon=True)
        self._container = container
        self._log = log
        self._copied = 0
        self._ended = False

    def run(self) -> None:
        """Follow the container to its end."""
        # The engine may go away or restart; `complete` fetches what is missing then.
        with contextlib.suppress(Exception):
            for out, err in self._container.attach(stream=True, logs=True, demux=True):
                self._copy(out, sys.stdout)
                self._copy(err, sys.stderr)
            self._ended = True

    def complete(self) -> None:
        """
        Copy what has not come through, once the container has ended.

        The engine leaves a stream open for ever if the container ends while it attaches.
        """
        self.join(GRACE_S)
        if not self._ended:
            with contextlib.suppress(Exception):  # It was removed, and its output with it.
                whole = self._container.logs()
                self._copy(whole[self._copied :], sys.stdout)

    def _copy(self, chunk: bytes | None, sink: TextIO) -> None:
        if not chunk:
            return
        self._copied += len(chunk)
        sink.write(chunk.decode(errors="replace"))
        sink.flush()
        with contextlib.suppress(OSError):  # A full disk must not end the run.
            self._log.write(chunk)
