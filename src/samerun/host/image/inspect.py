"""`invoke inspect`: what an image is and holds, read without starting it."""

import dataclasses
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from samerun.core import contract
from samerun.core.errors import ImageNotFound
from samerun.core.record import Image
from samerun.host.image import identity

if TYPE_CHECKING:
    from docker import DockerClient

SHOWN = 15


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A layer of the image; *bytes* unpacked, *diff_id* survives recompression."""

    diff_id: str
    bytes: int
    made_by: str


@dataclass(frozen=True, kw_only=True)
class Package:
    """An installed package; *kind* is ``python`` or ``debian``, *bytes* those on disk."""

    kind: str
    name: str
    version: str
    licence: str
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """All that `invoke inspect` shows."""

    image: Image
    labels: dict[str, str]
    commit: str | None
    tags: tuple[str, ...]
    user: str
    entrypoint: tuple[str, ...]
    layers: tuple[Layer, ...]
    packages: tuple[Package, ...]


def inspect(client: "DockerClient", reference: str) -> Inspection:
    """
    Look *reference* up: a tag, a digest or an ID of an image on this machine.

    Raises:
        ImageNotFound: It is not here.
    """
    image = identity.identify(client, reference)
    raw = identity.look_up(client, reference)
    facts = identity.facts(client, raw)
    return Inspection(
        image=image,
        labels=dict(raw["Config"].get("Labels") or {}),
        commit=facts.get("commit"),
        tags=tuple(raw.get("RepoTags") or ()),
        user=raw["Config"].get("User", ""),
        entrypoint=tuple(raw["Config"].get("Entrypoint") or ()),
        layers=tuple(_layers(raw, client.api.history(raw["Id"]))),
        packages=tuple(Package(**package) for package in facts.get("installed", ())),
    )


def _layers(raw: dict[str, Any], history: list[dict[str, Any]]) -> Iterator[Layer]:
    """Pair the DiffIDs with the steps that made them, where their numbers tell which."""
    diff_ids = raw["RootFS"]["Layers"]
    steps = [step for step in reversed(history) if step["Size"]]
    known = steps if len(steps) == len(diff_ids) else [{}] * len(diff_ids)
    for diff_id, step in zip(diff_ids, known, strict=True):
        made_by = _shorten(step.get("CreatedBy", "?"))
        yield Layer(diff_id=diff_id, bytes=step.get("Size", 0), made_by=made_by)


def _shorten(made_by: str) -> str:
    """Return a step without its build arguments and shell, which every step repeats."""
    text = re.sub(r"\|\d+ (?:[A-Z_]+=\S* )*|/bin/sh -c |# buildkit", "", made_by)
    return " ".join(text.split())


def sbom(client: "DockerClient", reference: str) -> str:
    """
    Return the image's software bill of materials, CycloneDX JSON, as its build wrote it.

    Raises:
        ImageNotFound: The image is not here, or was not built by samerun.
    """
    raw = identity.look_up(client, reference)
    content = identity.read_file(client, raw["Id"], contract.IMAGE_SBOM)
    if content is None:
        raise ImageNotFound(
            f"{reference} holds no {contract.IMAGE_SBOM}: samerun did not build it.",
            "List its packages with a scanner of your own.",
        )
    return content.decode()


def to_json(found: Inspection) -> str:
    """Return everything as JSON."""
    return json.dumps(dataclasses.asdict(found), indent=2)


def show(found: Inspection, *, everything: bool) -> None:
    """Print tables: the identity, labels, layers and packages, the largest first."""
    # Into a pipe nothing is folded: digests are there to be copied.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 200)
    tables = (_facts(found), _layer_table(found), _package_table(found, everything=everything))
    for table in tables:
        console.print(table)
        console.print()


def _facts(found: Inspection) -> Table:
    table = _table("", "")
    image = found.image
    rows = {
        "image": image.reference,
        "tags": ", ".join(found.tags),
        "index digest": image.index_digest,
        "manifest digest": image.manifest_digest,
        "config digest": image.config_digest,
        "layers digest": image.layers_digest,
        "pull reference": image.pull_reference,
        "store, platform": f"{image.store}, {image.platform}",
        "base": f"{image.base.reference} ({image.base.origin})",
        "commit": found.commit,
        "user": found.user,
        "entrypoint": " ".join(found.entrypoint),
        **found.labels,
    }
    for name, value in rows.items():
        table.add_row(name, value or "-")
    return table


def _layer_table(found: Inspection) -> Table:
    table = _table("layer", "MB", "made by")
    for layer in found.layers:
        table.add_row(layer.diff_id[7:19], _megabytes(layer.bytes), layer.made_by[:90])
    table.add_row("all", _megabytes(sum(layer.bytes for layer in found.layers)), "")
    return table


def _package_table(found: Inspection, *, everything: bool) -> Table:
    table = _table("package", "version", "MB", "licence")
    packages = sorted(found.packages, key=lambda package: (-package.bytes, package.name))
    for package in packages if everything else packages[:SHOWN]:
        size = _megabytes(package.bytes)
        table.add_row(package.name, package.version, size, package.licence[:60])
    rest = packages[SHOWN:]
    if rest and not everything:
        size = _megabytes(sum(package.bytes for package in rest))
        table.add_row(f"{len(rest)} more", "", size, "list them with --packages")
    return table


def _table(*columns: str) -> Table:
    table = Table(box=None, show_header=any(columns), pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column == "MB" else "left", overflow="fold")
    return table


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f}"
