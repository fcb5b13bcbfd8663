"""Where this process reports to the run's record, and whether it is the one that does."""

import os
from pathlib import Path
from typing import Any

from samerun import contract, record


def is_recorded() -> bool:
    """Whether the kit started this container; one started by hand has no record."""
    return contract.ENV_RECORD in os.environ


def rank() -> int:
    """Return the rank of this process, 0 outside of a distributed job."""
    return int(os.environ.get("RANK", "0"))


def folder() -> Path:
    """Return the run's folder."""
    return Path(os.environ[contract.ENV_RECORD]).parent


def report(part: str, value: Any) -> None:
    """Report one part of the record; does nothing without a record."""
    if is_recorded():
        record.report(folder(), part, value)
