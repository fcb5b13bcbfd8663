"""One learner per application, good enough after seconds that its samples look like samples."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from fastai.collab import CollabDataLoaders, collab_learner
from fastai.tabular.all import (
    Categorify,
    FillMissing,
    Normalize,
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
    CategoryBlock,
    CrossEntropyLossFlat,
    DataBlock,
    ImageBlock,
    Learner,
    MaskBlock,
    MSELossFlat,
    MultiCategoryBlock,
    PILImage,
    PILMask,
    PointBlock,
    RandomSplitter,
    RegressionBlock,
    TensorPoint,
    accuracy,
    accuracy_multi,
    error_rate,
    foreground_acc,
    imagenet_stats,
    perplexity,
    rmse,
)
from fastai.vision.all import Normalize as NormalizeImages

from .shapes import CODES, PX, Scene

ITEMS = 240


def one(index: int) -> Scene:
    """Return a scene of one shape."""
    return Scene.make(index)


def odd(index: int) -> Scene:
    """Return a scene of one shape, which its color may not tell."""
    return Scene.make(index, odd=0.5)


def two(index: int) -> Scene:
    """Return a scene of up to two shapes."""
    return Scene.make(index, most=2)


def _vision(blocks: Any, get_x: Any, get_y: Any, model: Any, **options: Any) -> Learner:
    """Normalized as for ImageNet: the samples have to be turned back into colors."""
    block = DataBlock(
        blocks=blocks,
        get_x=get_x,
        get_y=get_y,
        splitter=RandomSplitter(0.25, seed=0),
        batch_tfms=[NormalizeImages.from_stats(*imagenet_stats)],
        n_inp=1,
    )
    dls = block.dataloaders(range(ITEMS), bs=20, num_workers=0)
    return Learner(dls, model, **options)


def _convolutions(*channels: int) -> list[torch.nn.Module]:
    layers: list[torch.nn.Module] = []
    for before, after in zip(channels, channels[1:], strict=False):
        layers += [torch.nn.Conv2d(before, after, 3, stride=2, padding=1)]
        layers += [torch.nn.BatchNorm2d(after), torch.nn.ReLU()]
    return layers


def _to_vector(outputs: int, *end: torch.nn.Module) -> torch.nn.Module:
    body = [*_convolutions(3, 16, 32, 48, 64), torch.nn.AdaptiveAvgPool2d(3), torch.nn.Flatten()]
    return torch.nn.Sequential(*body, torch.nn.Linear(64 * 9, outputs), *end)


def _to_image(channels: int) -> torch.nn.Module:
    up = torch.nn.Upsample(scale_factor=4, mode="bilinear")
    last = torch.nn.Conv2d(32 + 3, channels, 3, padding=1)

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down, self.up, self.last = torch.nn.Sequential(*_convolutions(3, 24, 32)), up, last

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(torch.cat([self.up(self.down(x)), x], dim=1))

    return Net()


def picture(scene: Scene) -> Any:
    """Return the image of a scene."""
    return PILImage.create(scene.image())


def classification() -> Learner:
    """Which shape is it?"""
    return _vision(
        (ImageBlock, CategoryBlock), lambda i: picture(odd(i)), lambda i: odd(i).shapes[0].name,
        _to_vector(3), loss_func=CrossEntropyLossFlat(), metrics=[accuracy, error_rate],
    )  # fmt: skip


def multi_label() -> Learner:
    """Which shapes are there?"""
    return _vision(
        (ImageBlock, MultiCategoryBlock), lambda i: picture(two(i)),
        lambda i: sorted({shape.name for shape in two(i).shapes}),
        _to_vector(3), loss_func=BCEWithLogitsLossFlat(), metrics=accuracy_multi,
    )  # fmt: skip


def image_regression() -> Learner:
    """How large is it?"""
    return _vision(
        (ImageBlock, RegressionBlock(1)), lambda i: picture(one(i)),
        lambda i: one(i).shapes[0].size / PX,
        _to_vector(1), loss_func=MSELossFlat(), metrics=rmse,
    )  # fmt: skip


def key_points() -> Learner:
    """Where are its upper left and its lower right corner?"""
    model = torch.nn.Sequential(_to_vector(4, torch.nn.Tanh()), torch.nn.Unflatten(1, (2, 2)))
    return _vision(
        (ImageBlock, PointBlock), lambda i: picture(one(i)),
        lambda i: TensorPoint.create([one(i).shapes[0].box[:2], one(i).shapes[0].box[2:]]),
        model, loss_func=MSELossFlat(),
    )  # fmt: skip


class ToBoxes(torch.nn.Module):
    """Predict one box, and its class."""

    def __init__(self) -> None:
        super().__init__()
        self.boxes, self.classes = _to_vector(4, torch.nn.Tanh()), _to_vector(4)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return boxes of shape (batch, 1, 4) and activations of shape (batch, 1, classes)."""
        return self.boxes(x)[:, None], self.classes(x)[:, None]


def boxes_loss(preds: Any, boxes: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Compare the first box and its class."""
    found = torch.nn.functional.mse_loss(preds[0][:, 0], boxes[:, 0].as_subclass(torch.Tensor))
    named = torch.nn.functional.cross_entropy(
        preds[1][:, 0], labels[:, 0].as_subclass(torch.Tensor)
    )
    return 5 * found + named


def boxes() -> Learner:
    """Where is it, and what?"""
    return _vision(
        (ImageBlock, BBoxBlock, BBoxLblBlock), lambda i: picture(one(i)),
        [lambda i: [s.box for s in one(i).shapes], lambda i: [s.name for s in one(i).shapes]],
        ToBoxes(), loss_func=boxes_loss,
    )  # fmt: skip


def segmentation() -> Learner:
    """What is each pixel?"""
    return _vision(
        (ImageBlock, MaskBlock(codes=list(CODES))), lambda i: picture(two(i)),
        lambda i: PILMask.create(two(i).mask()),
        _to_image(4), loss_func=CrossEntropyLossFlat(axis=1), metrics=foreground_acc,
    )  # fmt: skip


def image_to_image() -> Learner:
    """Take the noise away."""
    return _vision(
        (ImageBlock, ImageBlock), lambda i: PILImage.create(two(i).image(noise=60)),
        lambda i: PILImage.create(two(i).image(noise=0)),
        _to_image(3), loss_func=MSELossFlat(),
    )  # fmt: skip


def reviews(count: int = 400) -> pd.DataFrame:
    """Return opinions on films, with their tone."""
    rng = random.Random(1)
    words = {
        "positive": ["wonderful", "moving", "brilliant", "charming", "clever"],
        "negative": ["dull", "boring", "awful", "clumsy", "predictable"],
    }
    parts = ["the plot", "the acting", "the music", "every scene", "the ending"]
    rows = []
    for _ in range(count):
        tone = rng.choice(list(words))
        said = [f"{part} is {rng.choice(words[tone])}" for part in rng.sample(parts, 3)]
        rows.append(("The film: " + ", ".join(said[:-1]) + f" and {said[-1]}.", tone))
    return pd.DataFrame(rows, columns=["text", "label"])


def text_classification() -> Learner:
    """Does the reviewer like the film?"""
    dls = TextDataLoaders.from_df(
        reviews(), text_col="text", label_col="label", valid_pct=0.2, seed=0, bs=16
    )
    config = {**awd_lstm_clas_config, "emb_sz": 24, "n_hid": 32, "n_layers": 2}
    return text_classifier_learner(dls, AWD_LSTM, config=config, pretrained=False, metrics=accuracy)


def language_model() -> Learner:
    """Which word comes next?"""
    dls = TextDataLoaders.from_df(
        reviews(), text_col="text", valid_pct=0.2, seed=0, bs=16, seq_len=24, is_lm=True
    )
    config = {**awd_lstm_lm_config, "emb_sz": 32, "n_hid": 48, "n_layers": 2}
    return language_model_learner(
        dls, AWD_LSTM, config=config, pretrained=False, metrics=[accuracy, perplexity]
    )


def people(count: int = 400) -> pd.DataFrame:
    """Return a table in which the pay follows from the rest."""
    rng = random.Random(2)
    pay = {"baker": 2100, "nurse": 2600, "teacher": 3000, "engineer": 3800}
    rows = []
    for _ in range(count):
        job, age = rng.choice(list(pay)), rng.randint(20, 64)
        earned = pay[job] + 25 * (age - 20) + rng.gauss(0, 120)
        rows.append((job, rng.choice(["town", "country"]), age, round(earned)))
    frame = pd.DataFrame(rows, columns=["job", "lives in", "age", "pay"])
    return frame.assign(level=["high" if earned > 3200 else "low" for earned in frame["pay"]])


def _tabular(target: str, **options: Any) -> Learner:
    dls = TabularDataLoaders.from_df(
        people(), procs=[Categorify, FillMissing, Normalize], cat_names=["job", "lives in"],
        cont_names=["age"], y_names=target, valid_idx=list(range(320, 400)), bs=32,
    )  # fmt: skip
    return tabular_learner(dls, layers=[40, 20], **options)


def tabular() -> Learner:
    """High or low?"""
    return _tabular("level", metrics=accuracy)


def tabular_regression() -> Learner:
    """How much?"""
    return _tabular("pay", y_range=(0, 6000), metrics=rmse)


def collaborative() -> Learner:
    """How would they rate it?"""
    rng, films = random.Random(3), ["Alien", "Amelie", "Casablanca", "Fargo", "Metropolis", "Up"]
    users = ["Ada", "Alan", "Edsger", "Grace", "Katherine", "Linus", "Margaret"]
    likes = {user: rng.random() for user in users}
    good = {film: rng.random() for film in films}
    rows = [
        (
            user,
            film,
            float(min(5, max(0, round(5 * (likes[user] + good[film]) / 2 + rng.gauss(0, 0.5))))),
        )
        for user in users
        for film in films
        for _ in range(4)
    ]
    frame = pd.DataFrame(rows, columns=["user", "film", "rating"])
    dls = CollabDataLoaders.from_df(frame, bs=16, seed=0, item_name="film")
    return collab_learner(dls, n_factors=8, y_range=(0, 5.5))


# Learner, epochs and learning rate.
APPLICATIONS: dict[str, tuple[Callable[[], Learner], int, float]] = {
    "classification": (classification, 6, 3e-3),
    "multi_label": (multi_label, 8, 3e-3),
    "image_regression": (image_regression, 10, 3e-3),
    "key_points": (key_points, 14, 3e-3),
    "boxes": (boxes, 14, 3e-3),
    "segmentation": (segmentation, 6, 1e-2),
    "image_to_image": (image_to_image, 6, 1e-2),
    "text_classification": (text_classification, 5, 1e-2),
    "language_model": (language_model, 8, 2e-2),
    "tabular": (tabular, 5, 1e-2),
    "tabular_regression": (tabular_regression, 15, 5e-2),
    "collaborative": (collaborative, 8, 3e-2),
}


def prepare(learn: Learner, folder: Path) -> Learner:
    """Return *learn* writing to *folder*, without a progress bar."""
    learn.path = folder
    return learn.remove_cb(learn.progress) if hasattr(learn, "progress") else learn
