"""Migrate records of older schemas to the current one."""

import csv
import io
from collections.abc import Callable, Mapping
from typing import Any

from samerun.core.errors import RecordError

_ENTRY_OPTIONS = "--"


def migrate(raw: Any, newest: int) -> Any:
    """
    Return *raw*, a record of any schema up to *newest*, in the schema *newest*.

    Raises:
        RecordError: It has a newer schema.
        ValueError: It has no valid schema.
    """
    schema = raw.get("schema") if isinstance(raw, dict) else None
    if type(schema) is not int or schema < 1:
        raise ValueError(f"its schema is {schema!r:.60}, not a number from 1 to {newest}")
    if schema > newest:
        raise RecordError(
            f"The record has schema {schema}, but this version reads only up to {newest}.",
            "Update samerun to read it.",
        )
    for step in range(schema, newest):
        raw = {**_STEPS[step](raw), "schema": step + 1}
    return raw


def _launch_from_arguments(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record of schema 2, with the launch parsed from schema 1's command line."""
    words, command = _texts(raw, "arguments"), _texts(raw, "command")
    image = raw.get("image")
    reference = image.get("reference") if isinstance(image, dict) else None
    if raw.get("written_by") == "container":
        if not command:
            raise ValueError("command is empty")
        launch = {"target": command[0], "arguments": command[1:], "ranks": _ranks(raw)}
        return {**raw, "launch": {**launch, "environment": _environment(words)}}
    if reference not in words:
        return {**raw, "launch": None}  # It was never started.
    at = words.index(reference)
    return {**raw, "launch": {**_engine_side(words[:at]), **_inside(words[at + 1 :], raw)}}


def _texts(raw: Mapping[str, Any], name: str) -> list[str]:
    value = raw.get(name)
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise ValueError(f"{name} is {value!r:.60}, not a list of texts")
    return value


def _engine_side(flags: list[str]) -> dict[str, Any]:
    return {
        "network": _last(flags, "--network="),
        "memory": _last(flags, "--memory="),
        "pids_limit": _number(_last(flags, "--pids-limit=")),
        "environment": _environment(flags),
        "mounts": [_mount(word) for word in _values(flags, "--mount=")],
        "docker_args": _after_environment(flags),
    }


def _inside(words: list[str], raw: Mapping[str, Any]) -> dict[str, Any]:
    """Parse the entrypoint's arguments: options with one value each, the target, its arguments."""
    first = next(
        (i for i in range(0, len(words), 2) if not words[i].startswith(_ENTRY_OPTIONS)), None
    )
    if first is None:
        raise ValueError("its arguments name no target")
    return {"target": words[first], "arguments": words[first + 1 :], "ranks": _ranks(raw)}


def _ranks(raw: Mapping[str, Any]) -> int:
    topology = raw.get("topology")
    values = topology if isinstance(topology, dict) else {}
    procs, nodes = values.get("procs", 1), values.get("nodes", 1)
    return procs * nodes if type(procs) is int and type(nodes) is int else 1


def _values(flags: list[str], prefix: str) -> list[str]:
    return [word.removeprefix(prefix) for word in flags if word.startswith(prefix)]


def _last(flags: list[str], prefix: str) -> str | None:
    values = _values(flags, prefix)
    return values[-1] if values else None


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() else None


def _environment(flags: list[str]) -> dict[str, str]:
    return dict(word.partition("=")[::2] for word in _values(flags, "--env="))


def _mount(text: str) -> dict[str, Any]:
    fields = next(csv.reader(io.StringIO(text)), [])
    pairs = dict(entry.partition("=")[::2] for entry in fields)
    if "source" not in pairs or "target" not in pairs:
        raise ValueError(f"its arguments have a mount without source or target: {text!r:.60}")
    return {
        "source": pairs["source"],
        "target": pairs["target"],
        "read_only": "readonly" in fields,
    }


def _after_environment(flags: list[str]) -> list[str]:
    """Return the user's flags, which schema 1 put last."""
    last = max((i for i, word in enumerate(flags) if word.startswith("--env=")), default=-1)
    return flags[last + 1 :]


def _named_data(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record of schema 3: data may have names, which older versions would ignore."""
    return dict(raw)


_STEPS: Mapping[int, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    1: _launch_from_arguments,
    2: _named_data,
}
