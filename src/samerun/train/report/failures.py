"""The cause of a failed training, in the record and in a specific exit code."""

import contextlib
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from samerun.core import first_failure
from samerun.core.errors import (
    CommunicationFailed,
    CudaUnsupported,
    NoGpu,
    NotFinite,
    OutOfMemory,
    SamerunError,
)
from samerun.train.report import diagnosis, host_paths, missing_modules, reporting
from samerun.train.report.diagnosis import Diagnosis
from samerun.train.report.quiet import quietly

EXCEPTION = "exception"
_PACKAGE = f"{Path(__file__).parents[2]}/"
KINDS = {
    NotFinite.exit_code: "not finite",
    OutOfMemory.exit_code: "out of memory",
    NoGpu.exit_code: "no GPU",
    CudaUnsupported.exit_code: "CUDA not supported",
    CommunicationFailed.exit_code: first_failure.LOST,
}


@contextlib.contextmanager
def told() -> Iterator[None]:
    """
    Report an exception that ends the training inside, then exit.

    Errors of samerun and those that `diagnosis` knows have their own code, all others Python's 1.
    Traceback, or message, and remedy are printed in any case.
    """
    try:
        yield
    except Exception as error:
        found = None if isinstance(error, SamerunError) else _found(error)
        code = exit_code(error, found)
        quietly("report the failure", report, error, code, found)
        hint = quietly("look for a path of the host", host_paths.of, error)
        hint = hint or quietly("look for a missing package", missing_modules.of, error)
        lines = _lines(error, found, hint)
        error.__traceback__ = _from_script(error.__traceback__)
        if not lines:
            raise
        if not isinstance(error, SamerunError):
            quietly("print the traceback", traceback.print_exc)
        sys.stderr.write(f"samerun: {lines}\n")
        sys.exit(code)


def _found(error: BaseException) -> Diagnosis | None:
    found: Diagnosis | None = quietly("look for the cause", diagnosis.of_training, error)
    return found


def exit_code(error: Exception, found: Diagnosis | None = None) -> int:
    """Return the exit code for an exception that ends a training, and is of the kind *found*."""
    if isinstance(error, SamerunError):
        return error.exit_code
    return found.exit_code if found else 1


def _lines(error: Exception, found: Diagnosis | None, hint: str | None) -> str:
    """Return what to print below the traceback; empty if that says it all."""
    if isinstance(error, SamerunError):
        return str(error)
    if found:
        return f"{found.kind}: {_cause(error, found)}\n{found.remedy}"
    return hint or ""


def _cause(error: BaseException, found: Diagnosis) -> str:
    """Return the first line of the exception of that kind, from which *error* may be raised."""
    causes = diagnosis.causes(error)
    return diagnosis.first_line(next((one for one in causes if _found(one) is found), error))[:500]


def report(error: Exception, code: int, found: Diagnosis | None = None) -> None:
    """Report kind, rank, exception, remedy, and the last line of code outside of libraries."""
    kind = found.kind if found else KINDS.get(code, EXCEPTION)
    remedy = error.remedy if isinstance(error, SamerunError) else found and found.remedy
    rank = reporting.rank()
    what = f"{type(error).__name__}: {diagnosis.text(error)}"[:2000]
    failure = {"kind": kind, "rank": rank, "what": what, "where": _where(error)}
    failure |= {"time": time.time(), "code": code, "remedy": remedy or None}
    reporting.report(f"failure-{rank}", failure)


def _from_script(trace: TracebackType | None) -> TracebackType | None:
    """Return the part of *trace* that begins in the script: how it was started says nothing."""
    place = trace
    while place is not None and _is_ours(place.tb_frame.f_code.co_filename):
        place = place.tb_next
    return place or trace


def _is_ours(filename: str) -> bool:
    return filename.startswith((_PACKAGE, "<frozen runpy>"))


def _where(error: Exception) -> str | None:
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if not _is_ours(frame.filename)] or list(frames)
    own = [frame for frame in theirs if "site-packages" not in frame.filename]
    last = next(iter((own or theirs)[-1:]), None)
    return f"{last.filename}:{last.lineno}" if last else None
