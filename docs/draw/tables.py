"""Draw a table as W&B's page shows it, from the files that the run wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from tests.callback.wandblog import LoggedArtifact, LoggedRun

# Okabe and Ito's colors, which the color-blind can tell apart.
PALETTE = [
    (0, 114, 178), (230, 159, 0), (0, 158, 115), (204, 121, 167),
    (86, 180, 233), (213, 94, 0), (240, 228, 66), (120, 120, 120),
]  # fmt: skip
INK, FAINT, LINE, HEADER = (33, 37, 41), (120, 126, 132), (222, 226, 230), (245, 246, 248)
PAD, LINE_PX, IMAGE_PX, TEXT_PX = 10, 18, 112, 300


def font(size: int = 13, *, bold: bool = False) -> Any:
    """Return the font that comes with matplotlib."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(mpl.get_data_path()) / "fonts" / "ttf" / name), size)


class Files:
    """Finds the files that a table's cells name."""

    def __init__(self, run: LoggedRun) -> None:
        self._files = {k: v for a in run.artifacts for k, v in a.files.items()}

    def image(self, value: dict[str, Any]) -> Image.Image:
        """Return the image of a cell, with its masks and boxes over it, enlarged."""
        picture = Image.open(self._files[value["path"]]).convert("RGB")
        scale = IMAGE_PX / max(picture.size)
        size = (round(picture.width * scale), round(picture.height * scale))
        over = picture.resize(size, Image.Resampling.NEAREST)
        for mask in (value.get("masks") or {}).values():
            over = _tinted(over, Image.open(self._files[mask["path"]]))
        for boxes in (value.get("boxes") or {}).values():
            _frame(over, boxes, scale)
        return over

    def classes(self, value: dict[str, Any]) -> dict[int, str]:
        """Return the classes of an image's masks and boxes."""
        entry = value.get("classes")
        if not entry:
            return {}
        data = json.loads(Path(self._files[entry["path"]]).read_text())
        return {item["id"]: item["name"] for item in data["class_set"]}


def _tinted(picture: Image.Image, mask: Image.Image) -> Image.Image:
    indices = np.asarray(mask.convert("L").resize(picture.size, Image.Resampling.NEAREST))
    colors = np.array(PALETTE)[indices % len(PALETTE)]
    return Image.fromarray((0.45 * np.asarray(picture) + 0.55 * colors).astype(np.uint8))


def _frame(picture: Image.Image, boxes: list[dict[str, Any]], scale: float) -> None:
    canvas = ImageDraw.Draw(picture)
    for box in boxes:
        corners = [box["position"][k] * scale for k in ("minX", "minY", "maxX", "maxY")]
        color = PALETTE[box["class_id"] % len(PALETTE)]
        canvas.rectangle(corners, outline=color, width=2)
        text, size = box["box_caption"], font(10)
        x, y = corners[0], max(corners[1], 14)
        canvas.rectangle((x, y - 14, x + size.getlength(text) + 4, y), fill=color)
        canvas.text((x + 2, y - 7), text, fill="white", font=size, anchor="lm")


def _wrapped(text: str, width: int) -> list[str]:
    lines, line = [], ""
    for word in text.split():
        longer = f"{line} {word}".strip()
        if line and font().getlength(longer) > width:
            lines.append(line)
            longer = word
        line = longer
    return [*lines, line]


def _cell(value: Any, files: Files) -> Image.Image:
    """Return one cell, as large as what is in it."""
    if isinstance(value, dict) and value.get("path"):
        return files.image(value)
    if isinstance(value, float):
        value = f"{value:.4g}"
    lines = _wrapped("null" if value is None else str(value), TEXT_PX)
    width = int(max(font().getlength(line) for line in lines)) + 1
    picture = Image.new("RGB", (max(width, 1), LINE_PX * len(lines)), "white")
    for n, line in enumerate(lines):
        ImageDraw.Draw(picture).text((0, n * LINE_PX + 1), line, fill=INK, font=font())
    return picture


def _legend(table: dict[str, Any], files: Files) -> dict[int, str]:
    found: dict[int, str] = {}
    for row in table["data"]:
        for value in row:
            if isinstance(value, dict):
                found |= files.classes(value)
    return found


def draw_table(
    run: LoggedRun, table: dict[str, Any], title: str, rows: int = 4, first: int = 0
) -> Image.Image:
    """
    Return a picture of some rows of *table*.

    Args:
        run: The run that logged it.
        table: Columns and data, as ``LoggedRun.table`` returns them.
        title: What stands above it, such as the key.
        rows: How many rows.
        first: The first of them.
    """
    files = Files(run)
    cells = [[_cell(v, files) for v in row] for row in table["data"][first : first + rows]]
    heads = [str(name) for name in table["columns"]]
    widths = [
        2 * PAD + max([int(font(bold=True).getlength(head)) + 1, *[row[i].width for row in cells]])
        for i, head in enumerate(heads)
    ]
    heights = [2 * PAD + max(cell.height for cell in row) for row in cells]
    legend = _legend(table, files)
    top, below = 30, 30 if legend else 0
    size = (sum(widths) + 1, top + 34 + sum(heights) + 1 + below)
    size = (
        max(size[0], int(font(14, bold=True).getlength(title)) + PAD, 320 if legend else 0),
        size[1],
    )
    picture = Image.new("RGB", size, "white")
    canvas = ImageDraw.Draw(picture)
    canvas.text((2, 5), title, fill=INK, font=font(14, bold=True))
    _row(canvas, heads, widths, top)
    y = top + 34
    for row, height in zip(cells, heights, strict=True):
        x = 0
        for cell, width in zip(row, widths, strict=True):
            canvas.rectangle((x, y, x + width, y + height), outline=LINE)
            picture.paste(cell, (x + PAD, y + PAD))
            x += width
        y += height
    _keys(canvas, legend, y + 9)
    return picture


def _row(canvas: ImageDraw.ImageDraw, heads: list[str], widths: list[int], top: int) -> None:
    x = 0
    for head, width in zip(heads, widths, strict=True):
        canvas.rectangle((x, top, x + width, top + 34), fill=HEADER, outline=LINE)
        canvas.text((x + PAD, top + 9), head, fill=INK, font=font(bold=True))
        x += width


def _keys(canvas: ImageDraw.ImageDraw, legend: dict[int, str], y: int) -> None:
    x = 2
    for index, name in sorted(legend.items()):
        canvas.rectangle((x, y + 2, x + 12, y + 14), fill=PALETTE[index % len(PALETTE)])
        canvas.text((x + 18, y), name, fill=INK, font=font(12))
        x += 34 + int(font(12).getlength(name))


def draw_artifact(artifact: LoggedArtifact, version: str = "v0") -> Image.Image:
    """Return a picture of an artifact: its name, aliases, files and metadata."""
    lines = [("Type", artifact.type), ("Aliases", ", ".join([version, *artifact.aliases]))]
    files = sorted(artifact.files)
    lines += [
        ("Files", ", ".join(files[:3]) + (f", ... ({len(files)} files)" if files[3:] else ""))
    ]
    lines += [
        (f"metadata {k}", f"{v:.4g}" if isinstance(v, float) else str(v))
        for k, v in sorted(artifact.metadata.items())
    ]
    picture = Image.new("RGB", (620, 40 + 24 * len(lines)), "white")
    canvas = ImageDraw.Draw(picture)
    canvas.text((2, 6), artifact.name, fill=INK, font=font(15, bold=True))
    for n, (name, value) in enumerate(lines):
        y = 34 + 24 * n
        canvas.rectangle((0, y, 619, y + 24), fill=HEADER if n % 2 else "white", outline=LINE)
        canvas.text((PAD, y + 4), name, fill=FAINT, font=font(12))
        canvas.text((190, y + 4), value, fill=INK, font=font(12))
    return picture
