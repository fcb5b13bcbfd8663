"""Images and records as text or JSON."""

import dataclasses
import json
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from samerun.cli.typed import as_typed
from samerun.core.record import Image, Run
from samerun.core.terminal import safe
from samerun.host.image.verify import Verification


def to_stderr(text: str) -> None:
    """Print to stderr, because stdout is for JSON."""
    print(as_typed(text), file=sys.stderr, flush=True)  # noqa: T201


def identity(image: Image) -> str:
    """Return an image's digests by name, one per line."""
    base = image.base
    rows = [
        ("image", image.reference),
        ("digest", f"{image.digest}  ({image.digest_kind})"),
        ("config", image.config_digest or "unknown in this store"),
        ("layers", image.layers_digest),
        ("base", f"{base.reference}  ({base.origin})"),
        ("lock", f"sha256:{image.lock}"),
        ("holds", ", ".join(f"{name} {version}" for name, version in image.packages.items())),
    ]
    return "\n".join(f"  {name:<7} {safe(value)}" for name, value in rows)


def to_json(value: Any) -> str:
    """Return a dataclass as JSON."""
    return json.dumps(dataclasses.asdict(value), indent=2)


def verification(result: Verification) -> str:
    """Return the digests of two identical builds."""
    one, two = result.built, result.rebuilt
    lines = [
        "The rebuilt image is identical.",
        f"  built    {one.digest}  layers {one.layers_digest}",
        f"  rebuilt  {two.digest}  layers {two.layers_digest}",
    ]
    if result.moved:
        lines += [
            "The base image was not rebuilt: Debian now serves other versions of these packages.",
            *(f"  {package}" for package in result.moved),
        ]
    return "\n".join(lines)


def many_to_json(values: Sequence[Any]) -> str:
    """Return a list of dataclasses as JSON."""
    return json.dumps([dataclasses.asdict(value) for value in values], indent=2)


def whole(run: Run) -> str:
    """Return every field of a record that has a value, one per line, with its path."""
    fields = _flat(dataclasses.asdict(run))
    return "\n".join(f"  {safe(name):<32} {safe(value)}" for name, value in fields)


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _flat(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple) and any(isinstance(v, dict) for v in value):
        for number, item in enumerate(value):
            yield from _flat(item, f"{path}.{number}")
    elif value not in (None, (), [], ""):
        joined = isinstance(value, list | tuple)
        between = "; " if path == "unknown" else " "
        yield path, between.join(map(str, value)) if joined else value
