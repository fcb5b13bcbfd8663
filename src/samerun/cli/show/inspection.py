"""An image as tables for a terminal."""

import dataclasses
import json

from rich.table import Table

from samerun.cli.show.console import console
from samerun.core.terminal import safe
from samerun.host.image.inspect import Inspection

SHOWN = 15


def to_json(inspection: Inspection) -> str:
    """Return everything as JSON."""
    return json.dumps(dataclasses.asdict(inspection), indent=2)


def show(inspection: Inspection, *, everything: bool) -> None:
    """Print tables: the identity, labels, layers and packages, the largest first."""
    out = console()
    tables = (
        _facts(inspection),
        _layer_table(inspection),
        _package_table(inspection, everything=everything),
    )
    for table in tables:
        out.print(table)
        out.print()


def _facts(inspection: Inspection) -> Table:
    table = _table("", "")
    image = inspection.image
    rows = {
        "image": image.reference,
        "tags": ", ".join(inspection.tags),
        "index digest": image.index_digest,
        "manifest digest": image.manifest_digest,
        "config digest": image.config_digest,
        "layers digest": image.layers_digest,
        "pull reference": image.pull_reference,
        "store, platform": f"{image.store}, {image.platform}",
        "base": f"{image.base.reference} ({image.base.origin})",
        "commit": inspection.commit,
        "user": inspection.user,
        "entrypoint": " ".join(inspection.entrypoint),
        **inspection.labels,
    }
    for name, value in rows.items():
        _add(table, name, value or "-")
    return table


def _layer_table(inspection: Inspection) -> Table:
    table = _table("layer", "MB", "made by")
    for layer in inspection.layers:
        _add(table, layer.diff_id[7:19], _megabytes(layer.bytes), layer.made_by[:90])
    _add(table, "all", _megabytes(sum(layer.bytes for layer in inspection.layers)), "")
    return table


def _package_table(inspection: Inspection, *, everything: bool) -> Table:
    table = _table("package", "version", "MB", "license")
    packages = sorted(inspection.packages, key=lambda package: (-package.bytes, package.name))
    for package in packages if everything else packages[:SHOWN]:
        size = _megabytes(package.bytes)
        _add(table, package.name, package.version, size, package.license[:60])
    rest = packages[SHOWN:]
    if rest and not everything:
        size = _megabytes(sum(package.bytes for package in rest))
        _add(table, f"{len(rest)} more", "", size, "list them with --packages")
    return table


def _add(table: Table, *cells: str) -> None:
    """Add a row; an image that was loaded or pulled may say anything of itself."""
    table.add_row(*map(safe, cells))


def _table(*columns: str) -> Table:
    table = Table(box=None, show_header=any(columns), pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column == "MB" else "left", overflow="fold")
    return table


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f}"
