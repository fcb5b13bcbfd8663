"""Say once, and only once, what could not be logged."""

from __future__ import annotations

import contextlib
import errno
import logging
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from types import FrameType

_log = logging.getLogger("samerun.callback")


_ALL_LOST = "Training goes on; nothing that it logs from here on is in the run."
_MAY_BE_LOST = (
    "Training goes on; rows, samples and models from about here on are missing in the run "
    "until there is space again."
)
_OF_TORCH = ("inline_container", "iostream error")
# Whose lines tell the reader nothing about the own script.
_LIBRARIES = ("samerun", "fastai", "fastcore", "torch", "wandb", "plum", "accelerate")
_STANDARD = sysconfig.get_paths()["stdlib"]
# What wandb.sdk.mailbox raises once its process has ended.
_CLOSED = ("MailboxClosedError", "HandleAbandonedError")


class LoggingWarning(UserWarning):
    """Something was not logged to W&B; training went on."""


class Warner:
    """Turn failures of logging into one warning per subject."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def once(self, subject: str, message: str) -> None:
        """Warn with *message*, unless *subject* was warned about before."""
        if subject in self._said:
            return
        self._said.add(subject)
        file, line, module = _users_line()
        try:
            warnings.warn_explicit(message, LoggingWarning, file, line, module)
        except LoggingWarning:
            # `python -W error` turns warnings into exceptions; logging must not end a training.
            _log.warning(message)
        if _is_unheard(message):
            sys.stderr.write(f"{LoggingWarning.__name__}: {message}\n")

    @contextlib.contextmanager
    def guarded(self, subject: str, remedy: str = "") -> Iterator[None]:
        """
        Run the block; an exception in it becomes one warning.

        Args:
            subject: What is lost if the block fails, such as ``"prediction samples"``.
            remedy: What the reader can do about it, a full sentence.
        """
        try:
            yield
        except Exception as error:
            _log.debug("could not log %s", subject, exc_info=True)
            if is_gone(error):
                self.gone(error)
                return
            if is_full(error):
                self.full(error)
                return
            reason = f"{type(error).__name__}: {error}"
            self.once(subject, f"W&B did not get the {subject} ({reason}). {remedy}".rstrip())

    def gone(self, reason: object) -> None:
        """Warn that the run takes nothing any more: one warning, whatever is lost after it."""
        self.once("run", f"W&B does not take rows any more ({reason!r}). {_ALL_LOST}")

    def full(self, reason: object) -> None:
        """Warn that nothing can be written: one warning, whatever is lost by it."""
        self.once("disk", f"The disk is full ({reason}). {_MAY_BE_LOST}")


def _users_line() -> tuple[str, int, str]:
    """Return file, line and module of the code that called a library, or no line of anybody."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        file = frame.f_code.co_filename
        if package not in _LIBRARIES and not file.startswith(_STANDARD) and file[:1] != "<":
            return file, frame.f_lineno, str(frame.f_globals.get("__name__", ""))
        frame = frame.f_back
    return "samerun.callback", 0, __name__


def _is_unheard(message: str) -> bool:
    """
    Say whether all warnings are switched off, as scripts do it in their first lines.

    Whoever switches off this kind of warning by its name does not want to hear it.
    """
    for action, text, category, module, line in warnings.filters:
        if issubclass(LoggingWarning, category) and (text is None or text.match(message)):
            blanket = category is not LoggingWarning and text is None and not module and not line
            return action == "ignore" and blanket
    return False


def is_full(error: Exception) -> bool:
    """Say whether *error* means that a disk, or a quota on it, is full."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    # torch.save tells of a write that failed in no other way.
    return isinstance(error, RuntimeError) and any(word in str(error) for word in _OF_TORCH)


def is_gone(error: Exception) -> bool:
    """Say whether *error* means that wandb's own process, or the run, has ended."""
    if type(error).__name__ == "UsageError":
        return "is finished" in str(error)
    return isinstance(error, ConnectionError) or type(error).__name__ in _CLOSED
