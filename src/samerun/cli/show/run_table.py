"""The runs as a table for a terminal."""

from datetime import UTC, datetime

from samerun.host.run.listing import Listed


def table(listed: list[Listed], now: datetime | None = None) -> str:
    """Return the runs as aligned columns."""
    rows = [("name", "state", "recipe", "image", "metric", "age", "W&B")]
    rows += [
        (r.name, r.state, r.target, r.digest, r.metric, age(r.created, now), r.synced)
        for r in listed
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(line.rstrip() for line in lines)


def age(created: str, now: datetime | None = None) -> str:
    """Return the age of *created* in its largest unit."""
    try:
        seconds = ((now or datetime.now(UTC)) - datetime.fromisoformat(created)).total_seconds()
    except ValueError:
        return ""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"
