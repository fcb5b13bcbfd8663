"""Any object becomes JSON, and no secret does."""

from __future__ import annotations

import functools
import json
import math
import re
from enum import Enum

import numpy as np
import pytest
import torch
from fastcore.foundation import L

from samerun.callback.config import describe


class Broken:
    """Raise in everything that a description could ask for."""

    def __init__(self, value) -> None:
        self.value = value

    def __repr__(self) -> str:
        raise RuntimeError

    @property
    def __array__(self):
        raise RuntimeError


class Colour(Enum):
    RED = 1


class Connection:
    def __init__(self, password, url) -> None:
        self.password, self.url = password, url


CYCLE: list = []
CYCLE.append(CYCLE)


@pytest.mark.parametrize(
    "value",
    [
        None, True, 3, 2.5, math.nan, "x", b"x", {1, "a"}, slice(1e-5, 1e-3), range(3), L(1, 2),
        Broken(1), Broken, Colour.RED, print, functools.partial(sorted, key=len), lambda: 0,
        torch.tensor(1.0), torch.zeros(3, 4), np.float32(1), np.zeros(9), torch.nn.ReLU(),
        torch.float16, torch.device("cpu"), CYCLE, {(1, 2): {"a": object()}}, object(), iter([]),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_everything_becomes_json(value):
    """Whatever it is, its description is JSON without an address in it."""
    text = json.dumps(describe(value), allow_nan=False)

    assert not re.search("0x[0-9a-f]{6}", text)


def test_objects_keep_the_arguments_they_were_made_with():
    """An object becomes its class and its arguments, a partial its function and keywords."""
    assert describe(functools.partial(sorted, reverse=True)) == {"_name": "sorted", "reverse": True}
    assert describe(Connection("x", "y"))["_name"] == "Connection"


def test_secrets_stay_out():
    """Passwords by name, and logins in addresses, are masked."""
    described = describe(Connection("hunter2", "https://me:hunter2@host/db"))

    assert "hunter2" not in json.dumps(described)
    assert described["url"] == "https://***@host/db"


def test_long_values_are_cut():
    """A list of a million numbers does not fill the config."""
    assert len(json.dumps(describe(list(range(1_000_000))))) < 1000
