"""Every application of fastai: its table, and what every callback must survive with it."""

from __future__ import annotations

import warnings

import pytest
import torch

from samerun.callback.wandb import WandbCallback
from samerun.callback.warn import LoggingWarning

from .applications import APPLICATIONS, ITEMS, make
from .conftest import weights

VALID = ITEMS // 2


@pytest.fixture(autouse=True)
def no_logging_warnings():
    """Fail where the callback could not log something."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", LoggingWarning)
        yield


@pytest.mark.parametrize("name", APPLICATIONS)
def test_weights_are_the_same_with_predictions(run, tmp_path, name):
    """Weights after three epochs are bit-identical, predictions logged after each or not at all."""
    plain, logged = make(name, tmp_path), None
    plain.fit(1)
    plain.fit(2)
    logged = make(name, tmp_path)
    logged.add_cb(WandbCallback(log_preds_every_epoch=True))
    logged.fit(1)
    logged.fit(2)

    assert torch.equal(weights(plain), weights(logged))


@pytest.mark.parametrize("name", APPLICATIONS)
def test_table_of_predictions(run, finished, tmp_path, name):
    """Each application logs one table at the end, with a row per item and no warning."""
    learn = make(name, tmp_path)
    learn.add_cb(WandbCallback(n_preds=5))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        learn.fit(1)

    assert [str(w.message) for w in said if issubclass(w.category, LoggingWarning)] == []
    logged = finished(run)
    assert len(logged.column("Prediction_Samples")) == 1
    assert len(logged.table("Prediction_Samples")["data"]) == 5
