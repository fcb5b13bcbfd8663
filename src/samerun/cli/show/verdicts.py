"""The tables that `invoke reproduce` and `invoke compare` print."""

from collections.abc import Iterable

from rich.table import Table
from rich.text import Text

from samerun.cli.show.console import console
from samerun.core.terminal import safe
from samerun.host.reproduce.requirements import Requirement
from samerun.host.reproduce.verdict import Finding, Verdict

# Longer values without spaces, such as digests, are cut to their first characters.
SHOWN = 60
HEAD = 28


def requirements(needs: Iterable[Requirement]) -> None:
    """Print the requirements of a rerun and whether they are met."""
    table = _table("needs", "is", "what")
    for need in needs:
        style = "green" if need.state == "here" else "yellow" if "pulled" in need.state else "red"
        table.add_row(safe(need.subject), Text(need.state, style=style), Text(safe(need.detail)))
    console().print(table)


def verdict(result: Verdict, original: str, again: str) -> None:
    """Print the verdict: a line per subject, the first difference, and likely causes."""
    out = console()
    out.print(findings(result.findings, original, again))
    if result.first is not None:
        out.print(Text(safe(f"first difference in {result.first}")))
    if result.largest is not None:
        out.print(Text(f"largest relative difference of a metric or loss: {result.largest:.3g}"))
    for cause in result.causes:
        out.print(Text(safe(f"likely cause: {cause}")))
    for note in result.notes:
        out.print(Text(safe(f"note: {note}")))
    style = {"identical": "green", "within tolerance": "yellow"}.get(result.outcome, "red")
    out.print(Text(f"Verdict: {result.outcome}.", style=f"bold {style}"))


def findings(rows: Iterable[Finding], one: str, two: str) -> Table:
    """Return the table of findings; equal values are shown once."""
    table = _table("", "", safe(one), safe(two))
    for row in rows:
        word, style = _word(same=row.same)
        texts = (row.original, "" if row.same else row.again)
        cells = (Text(shorten(text)) for text in texts)
        table.add_row(safe(row.subject), Text(word, style=style), *cells)
    return table


def _word(*, same: bool | None) -> tuple[str, str]:
    if same is None:
        return "unknown", "yellow"
    return ("same", "green") if same else ("different", "bold red")


def shorten(text: str) -> str:
    """Cut hashes to their first characters; other text is not cut."""
    is_hash = len(text) >= SHOWN and " " not in text
    return safe(f"{text[:HEAD]}…" if is_hash else text)


def _table(*columns: str) -> Table:
    table = Table(box=None, show_header=any(columns), pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
