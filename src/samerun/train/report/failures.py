"""The cause of a failed training, in the record and in a specific exit code."""

import contextlib
import sys
import time
import traceback
from collections.abc import Iterator

from samerun.core.errors import CudaUnsupported, NoGpu, NotFinite, OutOfMemory, SamerunError
from samerun.train.report import host_paths, reporting
from samerun.train.report.quiet import quietly

KINDS = {
    NotFinite.exit_code: "not finite",
    OutOfMemory.exit_code: "out of memory",
    NoGpu.exit_code: "no GPU",
    CudaUnsupported.exit_code: "CUDA not supported",
}


@contextlib.contextmanager
def told() -> Iterator[None]:
    """
    Report an exception that ends the training inside, then exit.

    Out of memory exits with 112, samerun's errors with their own code, all others with
    Python's 1. Traceback or message are printed in any case.
    """
    try:
        yield
    except Exception as error:
        code = exit_code(error)
        quietly("report the failure", report, error, KINDS.get(code, "exception"))
        hint = quietly("look for a path of the host", host_paths.of, error)
        if code == 1 and not hint:
            raise
        if not isinstance(error, SamerunError):
            traceback.print_exc()
        sys.stderr.write(f"samerun: {hint or message(error)}\n")
        sys.exit(code)


def exit_code(error: Exception) -> int:
    """Return the exit code for an exception that ends a training."""
    if isinstance(error, SamerunError):
        return error.exit_code
    return OutOfMemory.exit_code if is_out_of_memory(error) else 1


def is_out_of_memory(error: Exception) -> bool:
    """Whether GPU or machine had too little memory; torch's CPU allocator has only a message."""
    if isinstance(error, MemoryError):
        return True
    kind, text = type(error).__name__, str(error)
    return kind == "OutOfMemoryError" or (
        isinstance(error, RuntimeError) and "can't allocate memory" in text
    )


def message(error: Exception) -> str:
    """Return one or two lines about the exception."""
    if isinstance(error, SamerunError):
        return str(error)
    return f"out of memory. Use a smaller batch size or more memory. {error}"


def report(error: Exception, kind: str) -> None:
    """Report kind, rank, exception, and the last line of code outside of libraries."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "site-packages" not in frame.filename]
    last = (own or list(frames))[-1]
    rank = reporting.rank()
    failure = {"kind": kind, "rank": rank, "what": f"{type(error).__name__}: {error}"[:2000]}
    failure |= {"where": f"{last.filename}:{last.lineno}", "time": time.time()}
    reporting.report(f"failure-{rank}", failure)
