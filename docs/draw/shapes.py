"""Images of colored shapes, with everything that a task can ask of them."""

from __future__ import annotations

import dataclasses
import random

import numpy as np
from PIL import Image, ImageDraw

PX = 96
NAMES = ("circle", "square", "triangle")
CODES = ("background", *NAMES)
_COLORS = {"circle": (214, 69, 65), "square": (52, 120, 190), "triangle": (236, 178, 46)}


@dataclasses.dataclass(frozen=True)
class Shape:
    """One shape: its kind, and its bounding box in pixels."""

    name: str
    left: int
    top: int
    size: int
    color: str

    @property
    def box(self) -> list[float]:
        """Left, top, right, bottom."""
        return [self.left, self.top, self.left + self.size, self.top + self.size]

    def draw(self, canvas: ImageDraw.ImageDraw, fill: object) -> None:
        """Fill the shape."""
        left, top, right, bottom = self.box
        if self.name == "circle":
            canvas.ellipse(self.box, fill=fill)
        elif self.name == "square":
            canvas.rectangle(self.box, fill=fill)
        else:
            canvas.polygon([((left + right) / 2, top), (right, bottom), (left, bottom)], fill=fill)


@dataclasses.dataclass(frozen=True)
class Scene:
    """One or two shapes on a grainy background, the same ones for the same index."""

    shapes: tuple[Shape, ...]
    background: tuple[int, int, int]
    index: int

    @classmethod
    def make(cls, index: int, most: int = 1, odd: float = 0) -> Scene:
        """
        Return scene number *index*, of up to *most* shapes, which do not overlap.

        Each kind has its color; the share *odd* of them has any.
        """
        rng = random.Random(index)
        shapes = []
        for n in range(rng.randint(1, most)):
            size = rng.randint(22, 44)
            room = PX // most - size if most > 1 else PX - size
            left = n * PX // most + rng.randint(0, max(room, 0))
            name, top = rng.choice(NAMES), rng.randint(2, PX - size - 3)
            color = rng.choice(NAMES) if rng.random() < odd else name
            shapes.append(Shape(name, left, top, size, color))
        gray = rng.randint(150, 225)
        return cls(tuple(shapes), (gray, gray, gray - 10), index)

    def image(self, noise: float = 6) -> np.ndarray:
        """Return the picture, uint8 of shape (96, 96, 3)."""
        picture = Image.new("RGB", (PX, PX), self.background)
        for shape in self.shapes:
            shape.draw(ImageDraw.Draw(picture), _COLORS[shape.color])
        grain = np.random.default_rng(self.index).normal(scale=noise, size=(PX, PX, 1))
        return (np.asarray(picture) + grain).clip(0, 255).astype(np.uint8)

    def mask(self) -> np.ndarray:
        """Return the class of each pixel, indices of ``CODES``, uint8 of shape (96, 96)."""
        picture = Image.new("L", (PX, PX), 0)
        for shape in self.shapes:
            shape.draw(ImageDraw.Draw(picture), CODES.index(shape.name))
        return np.asarray(picture)
