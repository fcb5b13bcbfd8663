"""
The options of a recipe, read from its source without running it.

A recipe is a file with ``def train(session, *, epochs: Annotated[int, "help"] = 4)``.
Host and container parse the same signature with the same code, so a wrong flag is found
before anything starts, and without a framework on the host.
"""

import argparse
import ast
import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from samerun.core.errors import UsageError

TYPES = {"int": int, "float": float, "str": str}
KINDS: dict[str, type] = {**TYPES, "bool": bool}


@dataclass(frozen=True, kw_only=True)
class Option:
    """One keyword argument of ``train``; *choices* for a ``Literal``."""

    name: str
    type: str
    default: Any
    help: str
    choices: tuple[str, ...] = ()

    @property
    def flag(self) -> str:
        """The option on the command line."""
        return "--" + self.name.replace("_", "-")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A recipe's name, first sentence and options, and whether it *downloads* anything."""

    name: str
    summary: str
    options: tuple[Option, ...]
    downloads: bool = False

    def parse(self, arguments: Sequence[str]) -> dict[str, Any]:
        """
        Return the value of every option: from *arguments*, else the default.

        Raises:
            UsageError: A flag is unknown, or a value has the wrong type.
        """
        parser = _Parser(prog=self.name, add_help=False, allow_abbrev=False)
        for option in self.options:
            _add(parser, option)
        return vars(parser.parse_args(list(arguments)))

    def usage(self) -> str:
        """Return one line per option: flag, default, help."""
        width = max((len(o.flag) for o in self.options), default=0)
        return "\n".join(
            f"  {o.flag:<{width}}  {o.help} (default {o.default})" for o in self.options
        )


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        flags = " ".join(a.option_strings[0] for a in self._actions)
        raise UsageError(f"Recipe {self.prog}: {message}.", f"Its flags are: {flags}")


def _add(parser: argparse.ArgumentParser, option: Option) -> None:
    if option.type == "bool":
        parser.add_argument(
            option.flag, action=argparse.BooleanOptionalAction, default=option.default
        )
        return
    parser.add_argument(
        option.flag,
        type=TYPES.get(option.type, str),
        default=option.default,
        choices=option.choices or None,
    )


def read_recipe(path: Path) -> Recipe:
    """
    Read the recipe in the file *path*.

    Raises:
        UsageError: The file has no ``train`` function, or an option that can't be read.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    summary = (ast.get_docstring(tree) or "").strip().split("\n")[0]
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == "train":
            return Recipe(
                name=path.stem,
                summary=summary,
                options=_options(node.args, path.stem),
                downloads=any(_declares_downloads(statement) for statement in tree.body),
            )
    raise UsageError(
        f"{path.name} has no train function.", "Add one as described in docs/recipes.md."
    )


def _declares_downloads(statement: ast.stmt) -> bool:
    """Whether the statement is ``DOWNLOADS = True``."""
    return ast.unparse(statement) == "DOWNLOADS = True"


def _options(args: ast.arguments, recipe: str) -> tuple[Option, ...]:
    pairs = zip(args.kwonlyargs, args.kw_defaults, strict=True)
    return tuple(_option(arg, default, recipe) for arg, default in pairs)


def _option(arg: ast.arg, default: ast.expr | None, recipe: str) -> Option:
    """Read ``name: Annotated[type, "help"] = default``; type may be ``Literal[...]``."""
    hint, text = _annotated(arg.annotation)
    choices = _choices(hint)
    kind = "str" if choices else hint.id if isinstance(hint, ast.Name) else ""
    if kind not in KINDS or default is None:
        raise _refusal(recipe, arg, default)
    try:
        value = ast.literal_eval(default)
    except ValueError:
        raise _refusal(recipe, arg, default) from None
    fits = type(value) is KINDS[kind] or (kind == "float" and type(value) is int)
    if not fits or (choices and value not in choices):
        raise _refusal(recipe, arg, default)
    return Option(name=arg.arg, type=kind, default=value, help=text, choices=choices)


def _refusal(recipe: str, arg: ast.arg, default: ast.expr | None) -> UsageError:
    written = f"{ast.unparse(arg)}{f' = {ast.unparse(default)}' if default else ''}"
    return UsageError(
        f"Recipe {recipe}: the option `{written}` can't be read from its source.",
        'Write NAME: Annotated[TYPE, "help"] = DEFAULT, with int, float, str, bool or '
        "Literal[...] of texts as TYPE and a plain value of that type as DEFAULT.",
    )


def _annotated(hint: ast.expr | None) -> tuple[ast.expr | None, str]:
    """Split ``Annotated[type, "help"]``; other hints have no help."""
    if isinstance(hint, ast.Subscript) and ast.unparse(hint.value) == "Annotated":
        kind, note = hint.slice.elts if isinstance(hint.slice, ast.Tuple) else (hint.slice, None)
        return kind, str(ast.literal_eval(note)) if note is not None else ""
    return hint, ""


def _choices(hint: ast.expr | None) -> tuple[str, ...]:
    """Return the values of ``Literal[...]``."""
    if not isinstance(hint, ast.Subscript):
        return ()
    if ast.unparse(hint.value).rpartition(".")[2] != "Literal":
        return ()
    values = ast.literal_eval(hint.slice)
    choices = values if isinstance(values, tuple) else (values,)
    return choices if all(isinstance(value, str) for value in choices) else ()


def find_recipe(folder: Path, name: str) -> Path:
    """
    Return the file of the recipe *name* in *folder*.

    Raises:
        UsageError: There is none; the message lists all, and the nearest name.
    """
    files = {path.stem: path for path in _files(folder)}
    if name in files:
        return files[name]
    near = difflib.get_close_matches(name, files, n=1)
    hint = f"Did you mean {near[0]}? " if near else ""
    raise UsageError(
        f"There is no recipe {name!r}.",
        f"{hint}Recipes: {', '.join(files)}. The path of your own script must end in .py.",
    )


def list_recipes(folder: Path) -> tuple[Recipe, ...]:
    """Read every recipe in *folder*, by name."""
    return tuple(read_recipe(path) for path in _files(folder))


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("*.py") if not p.name.startswith("_"))
