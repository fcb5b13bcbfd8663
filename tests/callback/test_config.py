"""Any object becomes JSON, and no secret does."""

from __future__ import annotations

import functools
import inspect
import itertools
import json
import math
import os
import re
import threading
import weakref
from enum import Enum

import numpy as np
import pytest
import torch
from fastai.vision.all import Callback, Normalize
from fastcore.foundation import L

from samerun.callback.config import describe, describe_batch, describe_learner

from .applications import make
from .conftest import make_learner


class Broken:
    """Raise in everything that a description could ask for."""

    def __init__(self, value) -> None:
        self.value = value

    def __repr__(self) -> str:
        raise RuntimeError

    @property
    def __array__(self):
        raise RuntimeError


class Color(Enum):
    RED = 1


class Connection:
    def __init__(self, password, url) -> None:
        self.password, self.url = password, url


class Hostile:
    """Raise on every attribute, also on those that nobody has."""

    def __getattr__(self, name):
        raise RuntimeError(name)


class Lying:
    """Say it is something else."""

    __class__ = property(lambda self: 1 / 0)


class Unprintable(str):
    __slots__ = ()

    def __str__(self) -> str:
        raise RuntimeError


class Endless(dict):
    """Have no last item."""

    def items(self):
        return ((i, i) for i in itertools.count())


class Slots:
    __slots__ = ("token",)

    def __init__(self) -> None:
        self.token = "hunter2"


CYCLE: list = []
CYCLE.append(CYCLE)


@pytest.mark.parametrize(
    "value",
    [
        None, True, 3, 2.5, math.nan, "x", b"x", {1, "a"}, slice(1e-5, 1e-3), range(3), L(1, 2),
        Broken(1), Broken, Color.RED, print, functools.partial(sorted, key=len), lambda: 0,
        torch.tensor(1.0), torch.zeros(3, 4), np.float32(1), np.zeros(9), torch.nn.ReLU(),
        torch.float16, torch.device("cpu"), CYCLE, {(1, 2): {"a": object()}}, object(), iter([]),
        Unprintable("x"), Endless(), Slots(), {object(): 1, Broken: 2}, 10**400,
        torch.zeros(2, device="meta"), torch.zeros((), device="meta"), np.array([None, "a"]),
        np.array(["a", "b"]), threading.Lock(), (i for i in ()), memoryview(b"x"), Ellipsis,
        "\ud800", {"a": {"b": {"c": {"d": {"e": {"f": 1}}}}}}, re.compile("x"), weakref.ref(Broken),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_everything_becomes_json(value):
    """Whatever it is, its description is JSON without an address in it."""
    text = json.dumps(describe(value), allow_nan=False)

    assert not re.search("0x[0-9a-f]{6}", text)


@pytest.mark.parametrize("kind", [Hostile, Lying])
def test_objects_that_raise_when_they_are_looked_at(kind):
    """Even what raises for every question has a description, among others that are not lost."""
    assert describe({"a": 1, "b": [kind()]}) == {"a": 1, "b": [kind.__name__]}


def test_objects_keep_the_arguments_they_were_made_with():
    """An object becomes its class and its arguments, a partial its function and keywords."""
    assert describe(functools.partial(sorted, reverse=True)) == {"_name": "sorted", "reverse": True}
    assert describe(Connection("x", "y"))["_name"] == "Connection"


def test_secrets_stay_out():
    """Passwords by name, and logins in addresses, are masked."""
    described = describe(Connection("hunter2", "https://me:hunter2@host/db"))

    assert "hunter2" not in json.dumps(described)
    assert described["url"] == "https://***@host/db"


@pytest.mark.parametrize(
    "name",
    [
        "api_key", "apikey", "WANDB_API_KEY", "token", "hf_token", "password", "passwd", "secret",
        "aws_secret_access_key", "private_key", "credentials", "Authorization", "cookie",
    ],
)  # fmt: skip
@pytest.mark.parametrize("holder", ["attribute", "item", "partial", "nested"])
def test_names_of_secrets(name, holder):
    """What is called like a secret is masked, wherever it is kept."""

    class Holder:
        def __init__(self, **kwargs):
            self.__dict__.update(kwargs)

    Holder.__init__.__signature__ = inspect.signature(eval(f"lambda self, {name}: None"))
    held = {
        "attribute": lambda: Holder(**{name: "hunter2"}),
        "item": lambda: {name: "hunter2"},
        "partial": lambda: functools.partial(print, **{name: "hunter2"}),
        "nested": lambda: [{"a": (Holder(**{name: "hunter2"}),)}],
    }[holder]()

    text = json.dumps(describe(held))
    assert "hunter2" not in text
    assert "***" in text


def test_secrets_of_the_environment_stay_out(monkeypatch):
    """The environment is not described, and its secrets are masked wherever they turn up."""
    monkeypatch.setenv("MY_TOKEN", "correct-horse")

    assert "correct-horse" not in json.dumps(describe({"env": os.environ}))
    assert describe(["url of correct-horse", "x"]) == ["url of ***", "x"]


@pytest.mark.parametrize(
    "text",
    [
        "https://host/data?token=hunter2hunter2&x=1", "s3://b?X-Amz-Signature=hunter2hunter2",
        "postgres://me:hunter2hunter2@host", "hf_hunter2hunter2hunter2", "sk-hunter2hunter2hunter2",
    ],
)  # fmt: skip
def test_secrets_in_texts(text):
    """A key in an address, or one that looks like a service's, is masked."""
    assert "hunter2" not in describe({"text": text})["text"]


def test_learner_is_described(tmp_path):
    """Data, transforms, optimizer, schedule, callbacks and loss stand there with their values."""
    learn = make("segmentation", tmp_path)
    learn.dls.after_batch.add(Normalize.from_stats([0.5] * 3, [0.25] * 3))
    seen = {}

    class Look(Callback):
        def before_train(self):
            seen.update(describe_learner(self.learn))

    learn.fit_one_cycle(1, 0.01, cbs=Look())

    json.dumps(seen, allow_nan=False)
    assert seen["train items"] == seen["valid items"] == 6
    assert seen["batch size"] == 3
    assert seen["dataset.tfms"] == [
        ["draw_image", "PILBase.create"],
        ["draw_mask", "PILBase.create"],
    ]
    assert seen["dls.after_item"][0]["codes"] == ["void", "thing"]
    assert seen["dls.after_batch"][-1]["_name"] == "Normalize"
    assert seen["dls.after_batch"][-1]["std"] == [0.25] * 3
    assert seen["optimizer"]["steps"][-1] == "adam_step"
    assert seen["optimizer"]["groups"][0]["wd"] == 0.01
    assert seen["Learner"]["loss_func"]["_name"] == "CrossEntropyLossFlat"
    assert seen["Learner"]["loss_func"]["axis"] == 1
    warm_up = seen["ParamScheduler"]["scheds"]["lr"]["scheds"][0]
    assert (warm_up["f"], warm_up["end"]) == ("sched_cos", 0.01)
    assert seen["Look"] is True


def test_broken_learner_is_described():
    """Of a learner that raises at every attribute, nothing is left but nothing is raised."""
    assert describe_learner(Hostile()) == {}


def test_long_values_are_cut():
    """A list of a million numbers does not fill the config."""
    assert len(json.dumps(describe(list(range(1_000_000))))) < 1000


def test_arguments_that_fastai_keeps_on_a_learner(tmp_path):
    """What ``vision_learner`` keeps is there; what the loop keeps, and callbacks, are not."""
    learn = make_learner(tmp_path)
    vars(learn).update(arch="resnet18", pretrained=False, n_out=2, normalize=True, token="x" * 9)
    learn.fit(1)

    described = describe_learner(learn)["Learner"]
    kept = {name: described[name] for name in ("arch", "pretrained", "n_out", "normalize", "token")}
    assert kept == {
        "arch": "resnet18", "pretrained": False, "n_out": 2, "normalize": True, "token": "***",
    }  # fmt: skip
    assert not {"recorder", "xb", "final_record", "smooth_loss", "train_eval"} & set(described)


def test_sizes_of_the_parts_of_an_input():
    """A pair and a dictionary have the sizes of their tensors."""
    pair = [torch.zeros(4, 2), torch.zeros(4, 3)]

    assert describe_batch((pair,)) == {
        "input 1 1 dim 1": 4, "input 1 1 dim 2": 2, "input 1 2 dim 1": 4, "input 1 2 dim 2": 3,
    }  # fmt: skip
    assert describe_batch(({"ids": torch.zeros(4, 2)},)) == {
        "input 1 ids dim 1": 4, "input 1 ids dim 2": 2,
    }  # fmt: skip
