"""
Standard output that can fail: a full disk behind ``>``, a closed pipe.

The command then ends with an error and its own code, not with a traceback and 1, the code of a
failed training. This holds for what Invoke prints, too. Where a run must go on without its
output, the error is suppressed as the `OSError` that it is.
"""

import contextlib
import io
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

from invoke.exceptions import Exit

from samerun.core.errors import OutputError


class OutputLost(Exit, OSError):
    """Standard output can't be written to; Invoke prints the text, and exits with the code."""

    def __init__(self, message: str | None, code: int) -> None:
        Exit.__init__(self, message, code)


class PipeClosed(OutputLost, BrokenPipeError):
    """The reader has closed the pipe, as in ``invoke … | head``."""


class Output(io.TextIOWrapper):
    """Standard output whose failures are errors of ours."""

    def write(self, text: str, /) -> int:
        """Write *text*; raises `OutputLost`."""
        with _named():
            return super().write(text)

    def flush(self) -> None:
        """Flush; raises `OutputLost`."""
        with _named():
            super().flush()


class Errors(io.TextIOWrapper):
    """Standard error that can't fail: the exit code matters more than what can't be printed."""

    def write(self, text: str, /) -> int:
        """Write *text* if that is possible."""
        with contextlib.suppress(OSError):
            super().write(text)
        return len(text)

    def flush(self) -> None:
        """Flush if that is possible."""
        with contextlib.suppress(OSError):
            super().flush()


@contextlib.contextmanager
def _named() -> Iterator[None]:
    try:
        yield
    except OutputLost:
        raise
    except BrokenPipeError as error:
        _discard()
        raise PipeClosed(None, 128 + signal.SIGPIPE) from error
    except OSError as error:
        _discard()
        problem = OutputError(
            f"Standard output can't be written to: {error.strerror or error}.",
            "Free space there, or redirect the output elsewhere.",
        )
        raise OutputLost(f"OutputError: {problem}", problem.exit_code) from error


def _discard() -> None:
    """Discard the rest, also what Python flushes at its end."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def check() -> None:
    """Replace standard output and error, once, if they are Python's own."""
    if _is_plain(sys.stdout, sys.__stdout__):
        sys.stdout = _as(Output, sys.stdout)
    if _is_plain(sys.stderr, sys.__stderr__):
        sys.stderr = _as(Errors, sys.stderr)


def _is_plain(stream: Any, original: Any) -> bool:
    return type(stream) is io.TextIOWrapper and stream is original


def _as(kind: type[io.TextIOWrapper], plain: Any) -> io.TextIOWrapper:
    options = {"line_buffering": plain.line_buffering, "write_through": plain.write_through}
    # A character that the locale lacks, or a file name in another encoding, is printed escaped.
    return kind(plain.buffer, encoding=plain.encoding, errors="backslashreplace", **options)
