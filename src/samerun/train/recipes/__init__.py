"""Recipes: one small file each, with ``def train(session, *, option=default)``."""

import difflib
from pathlib import Path

from samerun.errors import UsageError

FOLDER = Path(__file__).parent


def path(name: str) -> Path:
    """Return the file of the recipe *name*; UsageError with the nearest name if unknown."""
    file = FOLDER / f"{name}.py"
    if not file.is_file() or name.startswith("_"):
        names = sorted(p.stem for p in FOLDER.glob("*.py") if not p.name.startswith("_"))
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"Did you mean {near[0]}? " if near else ""
        raise UsageError(f"There is no recipe {name!r}.", f"{hint}Recipes: {', '.join(names)}.")
    return file
