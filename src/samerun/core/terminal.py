"""The terminal, and text from runs, records and servers that is safe to print on it."""

import re
import shutil
import sys

# C0 and C1 controls, and characters that change text direction (Trojan Source, CVE-2021-42574).
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\u2028\u2029]")


def width() -> int | None:
    """Return the columns of the terminal of standard output; None if it is not one."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def safe(text: object) -> str:
    """Return *text* on one line, with control characters escaped as in Python."""
    return _UNSAFE.sub(_escape, str(text))


def safe_lines(text: object) -> str:
    """Return *text* with control characters escaped, except newlines and tabs."""
    return _UNSAFE.sub(lambda found: found[0] if found[0] in "\n\t" else _escape(found), str(text))


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()
