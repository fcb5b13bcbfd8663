"""Lists as GraphQL pages them: edges, and how to go on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Page = dict[str, Any]


def page(items: Sequence[Any], first: int | None = None, after: str | None = None) -> Page:
    """Return *first* of the *items* that come after the cursor *after*."""
    start = int(after) if after else 0
    stop = min(start + first, len(items)) if first else len(items)
    edges = [{"node": items[i], "cursor": str(i + 1)} for i in range(start, stop)]
    more = {"hasNextPage": stop < len(items), "endCursor": str(stop) if items else None}
    return {"totalCount": len(items), "edges": edges, "pageInfo": more}


def edges(items: Sequence[Any]) -> Page:
    """Return *items* as a list that is not paged."""
    return {"edges": [{"node": item} for item in items]}
