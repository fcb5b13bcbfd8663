"""When a run writes checkpoints: `--checkpoints`, checked and in the container's form."""

import re

from samerun.core.errors import UsageError

DEFAULT = "epochs=1,minutes=10,keep=2"
OFF = "off"
_NUMBERS = {"epochs": r"\d+", "batches": r"\d+", "minutes": r"\d+(\.\d+)?", "keep": r"[1-9]\d*"}


def parse(text: str) -> str:
    """
    Return *text* with every number named, as the container reads it; empty for ``off``.

    Raises:
        UsageError: A name or a number that does not fit, or checkpoints that never come.
    """
    if text.strip() == OFF:
        return ""
    values = {"epochs": "0", "batches": "0", "minutes": "0", "keep": "2"}
    for part in text.split(","):
        name, _, value = (word.strip() for word in part.partition("="))
        if name not in values or not re.fullmatch(_NUMBERS[name], value):
            raise _refusal(text)
        values[name] = value
    if not any(float(values[name]) for name in ("epochs", "batches", "minutes")):
        raise _refusal(text)
    return ",".join(f"{name}={value}" for name, value in values.items())


def _refusal(text: str) -> UsageError:
    return UsageError(
        f"--checkpoints {text!r} is not possible.",
        f"Write e.g. {DEFAULT} or batches=200,keep=3 or {OFF}; one number is above 0.",
    )
