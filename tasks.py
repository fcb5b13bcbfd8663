"""The verbs of samerun, for Invoke; `samerun.cli` holds them, one module per subject."""

from pathlib import Path

from samerun.cli import common
from samerun.cli.collection import namespace

__all__ = ["namespace"]

common.work_in(Path(__file__).resolve().parent)
