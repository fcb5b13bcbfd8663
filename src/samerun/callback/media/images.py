# ruff: noqa: PLR2004 - numbers of dimensions and of channels
"""Turn decoded fastai tensors into what W&B draws, as arrays and without matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import wandb

# Colors of true and predicted points: readable on light and dark, and for the color-blind.
TRUE_COLOR, PREDICTED_COLOR = (0, 158, 115), (213, 94, 0)
# Smaller images are enlarged before points are drawn on them.
_DRAWN_PX = 224


def to_pixels(image: Any) -> np.ndarray:
    """
    Return *image* as uint8 of shape (height, width, 3), or (height, width) if it is gray.

    Args:
        image: Shape (channels, height, width); floats in [0, 1] or integers in [0, 255].
            Channels beyond the third are left out.
    """
    pixels = image.detach().cpu().as_subclass(torch.Tensor)
    if pixels.is_floating_point():
        pixels = pixels.float().nan_to_num().clamp(0, 1).mul(255).round()
    array = pixels.clamp(0, 255).to(torch.uint8).numpy()
    if array.ndim == 2:
        return array
    return array[0] if array.shape[0] < 3 else array[:3].transpose(1, 2, 0)


def to_image(image: Any, **kwargs: Any) -> Any:
    """Return a ``wandb.Image`` of *image*, a tensor of shape (channels, height, width)."""
    return wandb.Image(to_pixels(image), **kwargs)


def to_mask_image(image: Any, mask: Any, layer: str, classes: Sequence[Any]) -> Any:
    """
    Return *image* with *mask* over it, as W&B shows it: each class can be switched on and off.

    Args:
        image: Shape (channels, height, width).
        mask: Class indices, shape (height, width), or (1, height, width). W&B draws values up
            to 255.
        layer: Name of the mask.
        classes: The classes' names, in the order of their indices.
    """
    indices = mask.detach().cpu().as_subclass(torch.Tensor).numpy().astype(np.uint8)
    indices = indices.reshape(indices.shape[-2:])
    names = {i: str(name) for i, name in enumerate(classes)}
    # A value without a name (255 for "void", say) would make W&B refuse the mask.
    names |= {int(i): f"class {i}" for i in np.unique(indices) if int(i) not in names}
    labels = [{"id": i, "name": name} for i, name in names.items()]
    return to_image(
        image,
        masks={layer: {"mask_data": indices, "class_labels": names}},
        classes=labels,
    )


def to_points_image(image: Any, points: Any, color: tuple[int, int, int]) -> Any:
    """
    Return *image* with *points* on it.

    Args:
        image: Shape (channels, height, width).
        points: Coordinates in pixels, x before y, shape (number of points, 2).
        color: Red, green, blue, each in [0, 255].
    """
    pixels = to_pixels(image)
    if pixels.ndim == 2:
        pixels = np.stack([pixels] * 3, axis=-1)
    scale = max(1, _DRAWN_PX // max(pixels.shape[:2]))
    canvas = np.ascontiguousarray(pixels.repeat(scale, axis=0).repeat(scale, axis=1))
    radius = max(2, min(canvas.shape[:2]) // 40)
    rows, columns = np.ogrid[: canvas.shape[0], : canvas.shape[1]]
    for x, y in np.nan_to_num(_floats(points).reshape(-1, 2)) * scale + scale / 2:
        distance = np.hypot(columns - x, rows - y)
        canvas[distance < radius + 1.5] = (255, 255, 255)  # an edge, to be seen on any ground
        canvas[distance < radius] = color
    return wandb.Image(canvas)


def to_boxes_image(
    image: Any, boxes: Any, labels: Sequence[Any], layer: str, names: Sequence[str]
) -> Any:
    """
    Return *image* with *boxes* over it, as W&B shows them.

    Args:
        image: Shape (channels, height, width).
        boxes: Left, top, right, bottom in pixels, shape (number of boxes, 4).
        labels: One name per box; boxes without a name are padding and are left out.
        layer: Name of the set of boxes.
        names: All labels of the table, so that each has one color in all its images.
    """
    drawn = [
        {
            "position": dict(zip(("minX", "minY", "maxX", "maxY"), map(float, box), strict=True)),
            "domain": "pixel",
            "class_id": names.index(str(label)),
            "box_caption": str(label),
        }
        for box, label in zip(_floats(boxes).reshape(-1, 4), labels, strict=False)
        if str(label) not in ("", "#na#")
    ]
    classes = dict(enumerate(names))
    return to_image(image, boxes={layer: {"box_data": drawn, "class_labels": classes}})


def _floats(values: Any) -> np.ndarray:
    return values.detach().cpu().as_subclass(torch.Tensor).float().numpy()
