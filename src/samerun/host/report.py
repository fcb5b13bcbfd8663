"""What the host side shows of its data."""

import dataclasses
import json
import sys
from typing import TYPE_CHECKING, Any

from samerun.record import Image

if TYPE_CHECKING:
    from samerun.host.verify import Verdict


def to_stderr(text: str) -> None:
    """Print beside the data: stdout is for machines then."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def identity(image: Image) -> str:
    """Return an image's digests, one a line, by name."""
    base = image.base
    rows = [
        ("image", image.reference),
        ("digest", f"{image.digest}  ({image.digest_kind})"),
        ("config", image.config_digest or "not known in this store"),
        ("layers", image.layers_digest),
        ("base", f"{base.reference}  ({base.origin})"),
        ("lock", f"sha256:{image.lock}"),
        ("holds", ", ".join(f"{name} {version}" for name, version in image.packages.items())),
    ]
    return "\n".join(f"  {name:<7} {value}" for name, value in rows)


def to_json(value: Any) -> str:
    """Return a record as JSON, for machines."""
    return json.dumps(dataclasses.asdict(value), indent=2)


def verdict(verdict: "Verdict") -> str:
    """Return the digests of two builds that came out the same."""
    one, two = verdict.built, verdict.rebuilt
    lines = [
        "The image comes out the same from nothing.",
        f"  built    {one.digest}  layers {one.layers_digest}",
        f"  rebuilt  {two.digest}  layers {two.layers_digest}",
    ]
    if verdict.moved:
        lines += [
            "Its base can't be made again: Debian serves other versions today. It was kept.",
            *(f"  {package}" for package in verdict.moved),
        ]
    return "\n".join(lines)
