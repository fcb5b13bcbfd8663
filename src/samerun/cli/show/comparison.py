"""The comparison of two runs as text."""

from collections.abc import Iterator

from rich.text import Text

from samerun.cli.show import plot, verdicts
from samerun.cli.show.console import console
from samerun.core.errors import UsageError
from samerun.core.terminal import safe, safe_lines
from samerun.host.reproduce import traces
from samerun.host.reproduce.compare import Comparison
from samerun.host.reproduce.find_run import FoundRun


def show(comparison: Comparison, metric: str | None) -> None:
    """Print the differences, the diff of the code, and a plot of one metric."""
    out = console()
    one, two = comparison.one.run, comparison.two.run
    name = choose_metric(comparison.one, comparison.two, metric)
    out.print(
        verdicts.findings(
            comparison.findings, f"A {comparison.one.link}", f"B {comparison.two.link}"
        )
    )
    if comparison.patch:
        out.print(Text(safe_lines("\n".join(("", *comparison.patch)))))
    if name is not None:
        out.print(Text("\n" + safe(f"{name} per epoch: A {one.name}, B {two.name}, * both")))
        out.print(
            Text("\n".join(plot.draw(*(curve(f, name) for f in (comparison.one, comparison.two)))))
        )
    for note in comparison.notes:
        out.print(Text(safe(f"note: {note}")))
    out.print(Text("\n" + safe(f"The same: {', '.join(_grouped(comparison.same)) or 'nothing'}.")))


def _grouped(subjects: tuple[str, ...]) -> Iterator[str]:
    """Yield the subjects; several of one kind are shown as their number."""
    groups: dict[str, list[str]] = {}
    for subject in subjects:
        groups.setdefault(subject.partition(".")[0], []).append(subject)
    for name, members in groups.items():
        yield f"{len(members)} of {name}" if len(members) > 1 else members[0]


def choose_metric(one: FoundRun, two: FoundRun, wanted: str | None) -> str | None:
    """Return the metric to plot: *wanted*, else valid_loss, else the first; None without any."""
    rows = (*one.trace.epochs, *two.trace.epochs)
    names = list(dict.fromkeys(name for epoch in rows for name in epoch.metrics))
    if wanted is not None and wanted not in names:
        raise UsageError(f"Neither run has a metric {wanted!r}.", f"Use one of {', '.join(names)}.")
    return wanted or ("valid_loss" if "valid_loss" in names else next(iter(names), None))


def curve(run: FoundRun, name: str) -> list[float | None]:
    """Return a metric over the epochs."""
    return [traces.number(epoch.metrics.get(name)) for epoch in run.trace.epochs]
