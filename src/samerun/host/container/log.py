"""Copy a container's output to the run's log and to the terminal."""

import codecs
import contextlib
import sys
import threading
from typing import TYPE_CHECKING, BinaryIO, TextIO

if TYPE_CHECKING:
    from docker.models.containers import Container

# How long a container's last output may take to arrive after its end.
GRACE_S = 3.0


class Sink:
    """
    One stream of the terminal, whose errors don't affect the log and the run.

    Characters that its character set lacks are replaced. After an error, such as a closed pipe
    or a full disk behind ``>``, nothing more is written to it.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream: TextIO | None = stream
        # A character may be split between two chunks.
        self._decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
        self._charset = getattr(stream, "encoding", None) or "utf-8"

    def write(self, chunk: bytes) -> None:
        """Write *chunk*, unless the stream had an error."""
        if self._stream is None:
            return
        text = self._decode(chunk).encode(self._charset, "replace").decode(self._charset)
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):  # ValueError: it is closed.
            self._stream = None


class Copying(threading.Thread):
    """Copies until the container ends; `complete` copies the rest."""

    def __init__(self, container: "Container", log: BinaryIO) -> None:
        super().__init__(daemon=True)
        self._container = container
        self._log = log
        self._out, self._err = Sink(sys.stdout), Sink(sys.stderr)
        self._copied = 0
        self._ended = False

    def run(self) -> None:
        """
        Follow the container until its end.

        It never stops reading, because the engine would then block the container's output.
        """
        # The engine may stop or restart; `complete` copies what is missing then.
        with contextlib.suppress(Exception):
            for out, err in self._container.attach(stream=True, logs=True, demux=True):
                self._copy(out, self._out)
                self._copy(err, self._err)
            self._ended = True

    def complete(self) -> None:
        """
        Copy the output that is still missing, after the container has ended.

        The engine leaves a stream open forever if the container ends while it attaches.
        """
        self.join(GRACE_S)
        if not self._ended:
            with contextlib.suppress(Exception):  # It was removed, together with its output.
                whole = self._container.logs()
                self._copy(whole[self._copied :], self._out)

    def _copy(self, chunk: bytes | None, sink: Sink) -> None:
        if not chunk:
            return
        self._copied += len(chunk)
        # The log first: the terminal can fail alone.
        with contextlib.suppress(OSError):  # A full disk must not end the run.
            self._log.write(chunk)
        sink.write(chunk)
