"""A plot of two curves from plain characters, which needs no library and works in logs."""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

HEIGHT, WIDTH = 12, 64
BOTH = "*"


def draw(
    one: Sequence[float | None],
    two: Sequence[float | None],
    *,
    width: int = WIDTH,
    height: int = HEIGHT,
) -> list[str]:
    """
    Return the lines of a plot of two curves over their epochs, ``A`` and ``B``.

    Where both have the same position it shows ``*``; non-finite values are skipped.
    """
    curves = [_finite(curve) for curve in (one, two)]
    points = [point for curve in curves for point in curve]
    if not points:
        return ["nothing to plot: there are no finite values"]
    low, high = min(y for _, y in points), max(y for _, y in points)
    last = max(x for x, _ in points)
    grid = [[" "] * width for _ in range(height)]
    for curve, mark in zip(curves, "AB", strict=True):
        for column, y in _columns(curve, last, width):
            row = height - 1 - _scale(y - low, high - low, height)
            cell = grid[row][column]
            grid[row][column] = mark if cell in (" ", mark) else BOTH
    return [*_with_axis(grid, low, high), _foot(last, width)]


def _finite(curve: Sequence[float | None]) -> list[tuple[int, float]]:
    return [(i, y) for i, y in enumerate(curve) if y is not None and math.isfinite(y)]


def _columns(curve: list[tuple[int, float]], last: int, width: int) -> Iterator[tuple[int, float]]:
    """Yield a value for every column from the curve's first to its last, interpolated linearly."""
    for (x0, y0), (x1, y1) in pairwise(curve):
        first, end = _scale(x0, last, width), _scale(x1, last, width)
        for column in range(first, end):
            yield column, y0 + (y1 - y0) * (column - first) / (end - first)
    for x, y in curve[-1:]:
        yield _scale(x, last, width), y


def _scale(value: float, span: float, cells: int) -> int:
    return round(value / span * (cells - 1)) if span else 0


def _with_axis(grid: list[list[str]], low: float, high: float) -> list[str]:
    labels = {0: f"{high:.4g}", len(grid) - 1: f"{low:.4g}"}
    return [f"{labels.get(i, ''):>10} ┤{''.join(row).rstrip()}" for i, row in enumerate(grid)]


def _foot(last: int, width: int) -> str:
    number = str(last)
    line = f"0{'epoch':^{width - 1 - len(number)}}{number}"
    return f"{'':>10}  {line}"
