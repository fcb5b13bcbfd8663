"""What the host side shows of its data."""

import sys

from samerun.record import Image


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
