"""One tiny learner for each application of fastai, made from data in memory."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from fastai.collab import CollabDataLoaders, collab_learner
from fastai.tabular.all import (
    Categorify,
    CategoryBlock,
    FillMissing,
    Normalize,
    RegressionBlock,
    TabularDataLoaders,
    tabular_learner,
)
from fastai.text.all import (
    AWD_LSTM,
    TextDataLoaders,
    awd_lstm_clas_config,
    awd_lstm_lm_config,
    language_model_learner,
    text_classifier_learner,
)
from fastai.vision.all import (
    BBoxBlock,
    BBoxLblBlock,
    BCEWithLogitsLossFlat,
    CrossEntropyLossFlat,
    DataBlock,
    ImageBlock,
    IndexSplitter,
    Learner,
    MaskBlock,
    MSELossFlat,
    MultiCategoryBlock,
    PILImage,
    PILMask,
    PointBlock,
    TensorPoint,
    accuracy,
    accuracy_multi,
    rmse,
    set_seed,
)

ITEMS, PX = 12, 16
_WORDS = [
    "a",
    "film",
    "of",
    "no",
    "great",
    "worth",
    "but",
    "with",
    "one",
    "very",
    "good",
    "scene",
    "in",
    "it",
]


def draw_image(i: int) -> Any:
    """Return an image of one color, with a square on it."""
    pixels = np.full((PX, PX, 3), 20 * i, dtype=np.uint8)
    pixels[4:9, 3:8] = (200, 30, 30)
    return PILImage.create(pixels)


def draw_mask(i: int) -> Any:
    """Return a mask with two classes, the square and the rest."""
    pixels = np.zeros((PX, PX), dtype=np.uint8)
    pixels[4:9, 3:8] = 1
    return PILMask.create(pixels)


def draw_label(i: int) -> str:
    """Return one of two classes."""
    return ("cat", "dog")[i % 2]


def draw_labels(i: int):  # fastai takes a return annotation as a type to cast to
    """Return up to two classes."""
    return [["cat"], ["cat", "dog"], ["dog"]][i % 3]


def draw_number(i: int) -> float:
    """Return a number."""
    return i / ITEMS


def draw_points(i: int) -> Any:
    """Return two corners of the square, in pixels."""
    return TensorPoint.create([[3.0, 4.0], [8.0, 9.0]])


def draw_labels_of_boxes(i: int):  # fastai takes a return annotation as a type to cast to
    """Return the name of the box."""
    return ["square"]


def draw_boxes(i: int):  # fastai takes a return annotation as a type to cast to
    """Return the box around the square."""
    return [[3.0, 4.0, 8.0, 9.0]]


class ToBoxes(torch.nn.Module):
    """Predict something for a learner whose targets are boxes and labels."""

    def __init__(self) -> None:
        super().__init__()
        self.body = torch.nn.Conv2d(3, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return coordinates of shape (batch, 4)."""
        return self.body(x).mean(dim=(2, 3)).tanh()


def boxes_loss(pred: torch.Tensor, boxes: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Compare with the first box."""
    return (pred - boxes[:, 0]).pow(2).mean()


def _vision(path: Path, blocks: Any, getters: Any, model: Any, loss: Any, metrics: Any) -> Learner:
    block = DataBlock(
        blocks=blocks,
        get_x=draw_image,
        get_y=getters,
        splitter=IndexSplitter(list(range(ITEMS // 2, ITEMS))),
        n_inp=1,
    )
    dls = block.dataloaders(list(range(ITEMS)), bs=3, num_workers=0, path=path)
    return Learner(dls, model, loss_func=loss, metrics=metrics, path=path)


def _to_vector(outputs: int) -> torch.nn.Module:
    layers = [torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.AdaptiveAvgPool2d(1)]
    return torch.nn.Sequential(*layers, torch.nn.Flatten(), torch.nn.Linear(4, outputs))


def _to_image(channels: int) -> torch.nn.Module:
    return torch.nn.Conv2d(3, channels, 3, padding=1)


def classification(path: Path) -> Learner:
    """Images of cats and dogs."""
    loss = CrossEntropyLossFlat()
    return _vision(path, (ImageBlock, CategoryBlock), [draw_label], _to_vector(2), loss, accuracy)


def multi_label(path: Path) -> Learner:
    """Images of cats, dogs and both."""
    blocks, loss = (ImageBlock, MultiCategoryBlock), BCEWithLogitsLossFlat()
    return _vision(path, blocks, [draw_labels], _to_vector(2), loss, accuracy_multi)


def image_regression(path: Path) -> Learner:
    """Map each image to a number."""
    blocks, loss = (ImageBlock, RegressionBlock(1)), MSELossFlat()
    return _vision(path, blocks, [draw_number], _to_vector(1), loss, rmse)


def key_points(path: Path) -> Learner:
    """Two points on each image."""
    model = torch.nn.Sequential(_to_vector(4), torch.nn.Unflatten(1, (2, 2)))
    return _vision(path, (ImageBlock, PointBlock), [draw_points], model, MSELossFlat(), None)


def boxes(path: Path) -> Learner:
    """Find a labeled box on each image."""
    blocks = (ImageBlock, BBoxBlock, BBoxLblBlock)
    return _vision(path, blocks, [draw_boxes, draw_labels_of_boxes], ToBoxes(), boxes_loss, None)


def segmentation(path: Path) -> Learner:
    """Masks with the classes void and thing."""
    blocks, loss = (ImageBlock, MaskBlock(codes=["void", "thing"])), CrossEntropyLossFlat(axis=1)
    return _vision(path, blocks, [draw_mask], _to_image(2), loss, None)


def image_to_image(path: Path) -> Learner:
    """Make each image out of itself."""
    blocks = (ImageBlock, ImageBlock)
    return _vision(path, blocks, [draw_image], _to_image(3), MSELossFlat(), None)


def _texts() -> pd.DataFrame:
    texts = [" ".join(_WORDS[i % 5 :] * (1 + i % 3)) for i in range(4 * ITEMS)]
    labels = [("bad", "good")[i % 2] for i in range(4 * ITEMS)]
    return pd.DataFrame(
        {"text": texts, "label": labels, "valid": [i % 2 == 1 for i in range(4 * ITEMS)]}
    )


def text_classification(path: Path) -> Learner:
    """Reviews, fewer in a batch than are shown."""
    frame = _texts().assign(valid=lambda d: d.index % 3 == 0)
    options = {"text_col": "text", "label_col": "label", "valid_col": "valid", "bs": 4}
    dls = TextDataLoaders.from_df(frame, path=path, **options)
    config = {**awd_lstm_clas_config, "emb_sz": 8, "n_hid": 8, "n_layers": 2}
    return text_classifier_learner(dls, AWD_LSTM, config=config, pretrained=False, path=path)


def language_model(path: Path) -> Learner:
    """Write the next word of reviews."""
    options = {"text_col": "text", "valid_col": "valid", "bs": 4, "seq_len": 12, "is_lm": True}
    dls = TextDataLoaders.from_df(_texts(), path=path, **options)
    config = {**awd_lstm_lm_config, "emb_sz": 8, "n_hid": 8, "n_layers": 2}
    return language_model_learner(dls, AWD_LSTM, config=config, pretrained=False, path=path)


def _frame() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    columns = {np.str_("size"): rng.normal(size=40), np.str_("price"): rng.normal(size=40)}
    kinds = {"color": ["red", "blue"] * 20, "kind": ["x", "y", "z", "z"] * 10}
    return pd.DataFrame({**columns, **kinds})


def tabular(path: Path, y: str = "kind", block: Any = CategoryBlock) -> Learner:
    """Rows of a table, with column names as scikit-learn makes them."""
    dls = TabularDataLoaders.from_df(
        _frame(), path=path, procs=[Categorify, FillMissing, Normalize], cat_names=["color"],
        cont_names=[np.str_("size")], y_names=y, y_block=block(), valid_idx=list(range(30, 40)),
        bs=8,
    )  # fmt: skip
    return tabular_learner(dls, layers=[8], path=path)


def collaborative(path: Path) -> Learner:
    """Ratings of items by users."""
    rows = [(f"user{i % 5}", f"film{i % 7}", float(i % 5)) for i in range(40)]
    frame = pd.DataFrame(rows, columns=["user", "title", "rating"])
    dls = CollabDataLoaders.from_df(frame, bs=8, path=path, seed=0)
    return collab_learner(dls, n_factors=4, y_range=(0, 5), path=path)


APPLICATIONS: dict[str, Callable[[Path], Learner]] = {
    "classification": classification,
    "multi_label": multi_label,
    "image_regression": image_regression,
    "key_points": key_points,
    "boxes": boxes,
    "segmentation": segmentation,
    "image_to_image": image_to_image,
    "text_classification": text_classification,
    "language_model": language_model,
    "tabular": tabular,
    "tabular_regression": partial(tabular, y="price", block=RegressionBlock),
    "collaborative": collaborative,
}


def make(name: str, path: Path) -> Learner:
    """Return the seeded learner of an application, without a progress bar."""
    set_seed(0)
    learn = APPLICATIONS[name](path)
    return learn.remove_cb(learn.progress) if hasattr(learn, "progress") else learn
