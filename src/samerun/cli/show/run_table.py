"""The runs as a table for a terminal."""

import shlex
from collections import Counter
from datetime import UTC, datetime

from samerun.core.terminal import safe
from samerun.host.run.listing import Listed

# Longer flags are cut; `invoke show` has them all.
FLAGS = 40


def table(listed: list[Listed], now: datetime | None = None) -> str:
    """Return the runs as aligned columns; the metric is one that most of them have."""
    metric = common_metric(listed)
    rows = [("name", "state", "recipe", "image", metric or "metric", "age", "W&B")]
    rows += [
        (r.name, state(r), command(r), r.digest, value(r, metric), age(r.created, now), r.synced)
        for r in listed
    ]
    # Names and flags of a run may have line breaks.
    cells = [[safe(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in cells]
    return "\n".join(line.rstrip() for line in lines)


def common_metric(listed: list[Listed]) -> str | None:
    """Return the metric to compare the runs by: their main one, or one that more of them have."""
    having = Counter(name for r in listed for name in r.metrics if name != "train_loss")
    main = Counter(r.metric.rpartition(" ")[0] for r in listed if r.metric)
    return max(main, key=lambda name: (having[name], main[name]), default=None)


def value(run: Listed, metric: str | None) -> str:
    """Return the run's value of *metric*, or else its own main metric with its name."""
    if metric in run.metrics:
        return f"{run.metrics[metric]:.4f}"
    return run.metric


def state(run: Listed) -> str:
    """Return the state; of a running training with its epochs and the time left."""
    if not run.progress:
        return run.state
    left = f", {duration(run.left_s)} left" if run.left_s is not None else ""
    return f"{run.state} {run.progress}{left}"


def command(run: Listed) -> str:
    """Return the recipe or script with its flags, which may be cut."""
    flags = shlex.join(run.flags)
    cut = f"{flags[: FLAGS - 1]}…" if len(flags) > FLAGS else flags
    return f"{run.target} {cut}".strip()


def age(created: str, now: datetime | None = None) -> str:
    """Return the age of *created* in its largest unit."""
    try:
        seconds = ((now or datetime.now(UTC)) - datetime.fromisoformat(created)).total_seconds()
    except ValueError:
        return ""
    return duration(seconds)


def duration(seconds: float) -> str:
    """Return *seconds* in their largest unit."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"
