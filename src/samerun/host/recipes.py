"""The recipes of this checkout, read without running them."""

import difflib

from samerun.errors import UsageError
from samerun.host.project import Project
from samerun.options import Recipe, list_recipes


def find(project: Project, name: str) -> Recipe:
    """Return the recipe *name*; UsageError with the list and the nearest name if unknown."""
    known = {recipe.name: recipe for recipe in list_recipes(project.recipes)}
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"Did you mean {near[0]}? " if near else ""
    raise UsageError(
        f"There is no recipe {name!r}.",
        f"{hint}Recipes: {', '.join(known)}. A script of your own ends in .py.",
    )
