"""Say once, and only once, what could not be logged."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator

_log = logging.getLogger("samerun.callback")


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
        try:
            warnings.warn(message, LoggingWarning, stacklevel=3)
        except LoggingWarning:
            # `python -W error` turns warnings into exceptions; logging must not end a training.
            _log.warning(message)

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
            reason = f"{type(error).__name__}: {error}"
            self.once(subject, f"W&B did not get the {subject} ({reason}). {remedy}".rstrip())
