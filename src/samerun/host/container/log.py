"""Copy a container's output to the run's log and to the terminal."""

import codecs
import contextlib
import re
import sys
import threading
from typing import TYPE_CHECKING, BinaryIO, TextIO

if TYPE_CHECKING:
    from docker.models.containers import Container

# How long a container's last output may take to arrive after its end.
GRACE_S = 3.0


# Colors and movements of the cursor, and what sets a terminal's title or clipboard (ECMA-48).
_SEQUENCE = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\^_])")
_BEGUN = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*|\][^\x07\x1b]*\x1b?)?\Z")
# A sequence that is longer is none.
_LONGEST = 256


class Plain:
    """Removes what is for terminals only, from output that comes in chunks."""

    def __init__(self) -> None:
        self._rest = b""

    def of(self, chunk: bytes) -> bytes:
        """Return *chunk* without sequences for terminals; one that is not complete has to wait."""
        text = _SEQUENCE.sub(b"", self._rest + chunk)
        begun = _BEGUN.search(text, max(0, len(text) - _LONGEST))
        self._rest = begun[0] if begun else b""
        return text[: len(text) - len(self._rest)]


class Sink:
    """
    One stream of the terminal, whose errors don't affect the log and the run.

    Characters that its character set lacks are replaced. After an error, such as a closed pipe
    or a full disk behind ``>``, nothing more is written to it.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream: TextIO | None = stream
        self._plain = None if stream.isatty() else Plain()
        # A character may be split between two chunks.
        self._decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
        self._charset = getattr(stream, "encoding", None) or "utf-8"

    def write(self, chunk: bytes) -> None:
        """Write *chunk*, unless the stream had an error."""
        if self._stream is None:
            return
        plain = self._plain.of(chunk) if self._plain else chunk
        text = self._decode(plain).encode(self._charset, "replace").decode(self._charset)
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
        self._plain = {self._out: Plain(), self._err: Plain()}
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
            self._log.write(self._plain[sink].of(chunk))
        sink.write(chunk)
