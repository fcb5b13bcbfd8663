"""A container's output, to the run's log and to the terminal, as it comes."""

import codecs
import contextlib
import sys
import threading
from typing import TYPE_CHECKING, BinaryIO, TextIO

if TYPE_CHECKING:
    from docker.models.containers import Container

# How long after its end a container's last output may take to come through.
GRACE_S = 3.0


class Sink:
    """
    One stream of the terminal; whatever befalls it, the log and the run are not touched.

    A pipe whose reader has gone, a full disk behind ``>``, a character set without a character:
    what can't be shown is left out, and after an error of the stream nothing more is tried.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream: TextIO | None = stream
        # A character may come in two pieces.
        self._decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
        self._charset = getattr(stream, "encoding", None) or "utf-8"

    def write(self, chunk: bytes) -> None:
        """Show *chunk*, if the stream still takes anything."""
        if self._stream is None:
            return
        text = self._decode(chunk).encode(self._charset, "replace").decode(self._charset)
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):  # ValueError: it is closed.
            self._stream = None


class Copying(threading.Thread):
    """Copies until the container ends; `complete` makes sure that nothing is missing."""

    def __init__(self, container: "Container", log: BinaryIO) -> None:
        super().__init__(daemon=True)
        self._container = container
        self._log = log
        self._out, self._err = Sink(sys.stdout), Sink(sys.stderr)
        self._copied = 0
        self._ended = False

    def run(self) -> None:
        """
        Follow the container to its end.

        It never stops reading: the engine would hold the container at its next line.
        """
        # The engine may go away or restart; `complete` fetches what is missing then.
        with contextlib.suppress(Exception):
            for out, err in self._container.attach(stream=True, logs=True, demux=True):
                self._copy(out, self._out)
                self._copy(err, self._err)
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
                self._copy(whole[self._copied :], self._out)

    def _copy(self, chunk: bytes | None, sink: Sink) -> None:
        if not chunk:
            return
        self._copied += len(chunk)
        # The log first: the terminal can fail alone.
        with contextlib.suppress(OSError):  # A full disk must not end the run.
            self._log.write(chunk)
        sink.write(chunk)
