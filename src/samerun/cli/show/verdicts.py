"""What `invoke reproduce` and `invoke compare` show: tables, for people."""

import sys
from collections.abc import Iterable

from rich.console import Console
from rich.table import Table
from rich.text import Text

from samerun.core.terminal import safe
from samerun.host.reproduce.requirements import Requirement
from samerun.host.reproduce.verdict import Finding, Verdict

# Longest value that is shown whole: a digest with its algorithm is cut to what tells it.
SHOWN = 60
HEAD = 28


def requirements(found: Iterable[Requirement]) -> None:
    """Print what a replay needs and whether it is there."""
    table = _table("needs", "is", "what")
    for need in found:
        style = "green" if need.state == "here" else "yellow" if "pulled" in need.state else "red"
        table.add_row(need.subject, Text(need.state, style=style), Text(safe(need.detail)))
    console().print(table)


def verdict(came: Verdict, original: str, again: str) -> None:
    """Print the verdict: a line per subject, where the runs part, and why."""
    out = console()
    out.print(findings(came.findings, original, again))
    if came.first is not None:
        out.print(Text(safe(f"they first part in {came.first}")))
    if came.largest is not None:
        out.print(Text(f"largest relative difference of a metric or loss: {came.largest:.3g}"))
    for cause in came.causes:
        out.print(Text(safe(f"likely cause: {cause}")))
    for note in came.notes:
        out.print(Text(safe(f"note: {note}")))
    style = {"identical": "green", "within tolerance": "yellow"}.get(came.outcome, "red")
    out.print(Text(f"Verdict: {came.outcome}.", style=f"bold {style}"))


def findings(rows: Iterable[Finding], one: str, two: str) -> Table:
    """Return the table of findings: what is the same is told once."""
    table = _table("", "", safe(one), safe(two))
    for row in rows:
        word, style = _word(same=row.same)
        texts = (row.original, "" if row.same else row.again)
        cells = (Text(shorten(text)) for text in texts)
        table.add_row(safe(row.subject), Text(word, style=style), *cells)
    return table


def _word(*, same: bool | None) -> tuple[str, str]:
    if same is None:
        return "not known", "yellow"
    return ("same", "green") if same else ("different", "bold red")


def shorten(text: str) -> str:
    """Cut what holds a hash to its head; other text stays whole."""
    is_hash = len(text) >= SHOWN and " " not in text
    return safe(f"{text[:HEAD]}…" if is_hash else text)


def console() -> Console:
    """Return the console; into a pipe nothing is folded at 80 columns."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else 200)


def _table(*columns: str) -> Table:
    table = Table(box=None, show_header=any(columns), pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
