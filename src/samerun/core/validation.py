"""
Build frozen dataclasses from JSON values by their type hints; refuse all other values.

pydantic can do this, but the container reads records too, and shared code uses only the
standard library.
"""

import dataclasses
import re
import sys
import types
import typing
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Literal, TypeVar, Union

T = TypeVar("T")


def build(cls: type[T], raw: Any) -> T:
    """
    Return *raw* as an object of the dataclass *cls*; unknown fields are dropped.

    Raises:
        ValueError: A value is invalid; the message has its path and the expected type.
    """
    result: T = _dataclass(cls, raw, "")
    return result


def _build(hint: Any, raw: Any, path: str) -> Any:
    if hint is Any:
        return raw
    if dataclasses.is_dataclass(hint):
        return _dataclass(hint, raw, path)
    builder = _BY_ORIGIN.get(typing.get_origin(hint))
    return builder(typing.get_args(hint), raw, path) if builder else _scalar(hint, raw, path)


def _dataclass(cls: Any, raw: Any, path: str) -> Any:
    values = _mapping(raw, path)
    hints = typing.get_type_hints(cls)
    known = {field.name: field for field in dataclasses.fields(cls)}
    for name, field in known.items():
        if name not in values and _is_required(field):
            raise ValueError(f"{_join(path, name)} is missing")
    return cls(**{n: _build(hints[n], v, _join(path, n)) for n, v in values.items() if n in known})


def _is_required(field: "dataclasses.Field[Any]") -> bool:
    missing = dataclasses.MISSING
    return field.default is missing and field.default_factory is missing


def _tuple(args: tuple[Any, ...], raw: Any, path: str) -> tuple[Any, ...]:
    if not isinstance(raw, list | tuple):
        raise _wrong(path, raw, "a list")
    return tuple(_build(args[0], item, f"{path}[{i}]") for i, item in enumerate(raw))


def _dict(args: tuple[Any, ...], raw: Any, path: str) -> dict[str, Any]:
    return {k: _build(args[1], v, _join(path, k)) for k, v in _mapping(raw, path).items()}


def _union(args: tuple[Any, ...], raw: Any, path: str) -> Any:
    if raw is None and types.NoneType in args:
        return None
    (only,) = (arg for arg in args if arg is not types.NoneType)
    return _build(only, raw, path)


def _literal(args: tuple[Any, ...], raw: Any, path: str) -> Any:
    if not isinstance(raw, str) or raw not in args:
        raise _wrong(path, raw, f"one of {', '.join(args)}")
    return raw


def _scalar(hint: Any, raw: Any, path: str) -> Any:
    # In Python, a bool is an int, but not here. JSON does not distinguish 1 from 1.0.
    if hint is float and type(raw) in (int, float) and abs(raw) <= sys.float_info.max:
        return float(raw)
    if type(raw) is not hint:
        raise _wrong(path, raw, _NAMES[hint])
    return raw


_NAMES = {str: "a text", int: "a whole number", bool: "true or false", float: "a number"}
_BY_ORIGIN: Mapping[Any, Callable[[tuple[Any, ...], Any, str], Any]] = {
    tuple: _tuple,
    dict: _dict,
    Union: _union,
    types.UnionType: _union,
    Literal: _literal,
}


def _mapping(raw: Any, path: str) -> dict[str, Any]:
    if not isinstance(raw, dict):
        raise _wrong(path, raw, "an object")
    return raw


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _wrong(path: str, raw: Any, wanted: str) -> ValueError:
    return ValueError(f"{path or 'the record'} is {raw!r:.60}, not {wanted}")


def matches(path: str, value: str, pattern: re.Pattern[str]) -> None:
    """Refuse a text that does not fully match *pattern*; ValueError with its path."""
    if not pattern.fullmatch(value):
        raise ValueError(f"{path} is {value!r:.60}, which does not match {pattern.pattern}")


def is_time(path: str, value: str | None) -> None:
    """Refuse a text that is not an ISO 8601 time with a time zone; ValueError with its path."""
    if value is None:
        return
    try:
        zone = datetime.fromisoformat(value).tzinfo
    except ValueError:
        zone = None
    if zone is None:
        raise ValueError(f"{path} is {value!r:.60}, not a time with its zone in ISO 8601")


def in_range(path: str, value: float | None, least: float, most: float) -> None:
    """Refuse a number that is not from *least* to *most*; ValueError with its path."""
    if value is not None and not least <= value <= most:
        raise ValueError(f"{path} is {value}, not from {least} to {most}")
