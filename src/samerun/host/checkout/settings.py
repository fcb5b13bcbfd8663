"""The defaults that a project sets: ``[tool.samerun]`` in pyproject.toml, or samerun.toml."""

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from samerun.core.errors import UsageError

FILE, PYPROJECT, TABLE = "samerun.toml", "pyproject.toml", "tool.samerun"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """
    What a project sets, named as the options of `invoke train`; None or empty: nothing.

    *packages* are requirements as in ``--with``; if they are set, no file of the project counts.
    *file* is where they are set.
    """

    packages: tuple[str, ...] | None = None
    project: str | None = None
    entity: str | None = None
    data: tuple[str, ...] = ()
    gpus: str | None = None
    checkpoints: str | None = None
    env: tuple[str, ...] = ()
    file: str = ""


_NAMES = tuple(one.name for one in fields(Settings) if one.name != "file")


def read(root: Path) -> Settings:
    """
    Return the settings of the project in *root*; samerun.toml counts before pyproject.toml.

    Raises:
        UsageError: A file is not TOML, or a key or its value is not one of ours.
    """
    own = _toml(root / FILE)
    if own is not None:
        return _settings(own, FILE)
    tools = (_toml(root / PYPROJECT) or {}).get("tool", {})
    table = tools.get("samerun", {}) if isinstance(tools, dict) else tools
    return _settings(table, f"[{TABLE}] in {PYPROJECT}")


def _toml(path: Path) -> dict[str, Any] | None:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} can't be read: {error}.", "Correct it: it is TOML.") from error


def _settings(table: Any, file: str) -> Settings:
    if not isinstance(table, dict):
        raise UsageError(f"{file} is not a table.", "Write one key per line.")
    values = {name: _value(name, value, file) for name, value in table.items()}
    return Settings(**values, file=file if values else "")


def _value(name: str, value: Any, file: str) -> Any:
    if name not in _NAMES:
        raise UsageError(f"Unknown key {name!r} in {file}.", f"Use one of {', '.join(_NAMES)}.")
    if name in ("packages", "data", "env"):
        if isinstance(value, list) and all(isinstance(one, str) and one for one in value):
            return tuple(value)
        raise UsageError(
            f"{name} = {value!r} in {file} is not a list of texts.", f'Write {name} = ["…"].'
        )
    if name == "gpus" and type(value) is int and value >= 0:
        return str(value)
    if isinstance(value, str) and value.strip():
        return value
    raise UsageError(f"{name} = {value!r} in {file} is not a text.", f'Write {name} = "…".')
