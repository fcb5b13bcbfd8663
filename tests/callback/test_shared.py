"""One callback in several learners logs the one that fits."""

from __future__ import annotations

import torch

from samerun.callback.wandb import WandbCallback

from .conftest import make_learner

COLUMNS = ("train_step", "epoch", "train_loss", "raw_loss", "valid_loss", "lr_0")


def learners(folder, cbs):
    """Return two learners whose epochs have 3 and 4 batches, each with its callback of *cbs*."""
    return [
        make_learner(folder / str(n), bs=bs, cbs=cb)
        for n, (bs, cb) in enumerate(zip((8, 6), cbs, strict=True))
    ]


def fit_in_turns(one, two):
    """Fit in turns; return the weights of both."""
    one.fit(1, lr=0.1)
    two.fit(2, lr=0.2)
    one.fit(2, lr=0.3)
    two.validate()
    one.validate()
    two.fit(1, lr=0.4)
    return [
        torch.cat([p.detach().flatten() for p in learn.model.parameters()]) for learn in (one, two)
    ]


def rows(logged):
    return [{name: row[name] for name in COLUMNS if name in row} for row in logged.rows]


def test_rows_are_those_of_two_callbacks(run, finished, tmp_path):
    shared = WandbCallback(log_preds=False)
    weights = fit_in_turns(*learners(tmp_path / "shared", [shared, shared]))
    together = rows(finished(run))

    expected = fit_in_turns(*learners(tmp_path / "none", [None, None]))
    assert len(together) == 3 + 8 + 6 + 4
    assert [row["train_step"] for row in together] == list(range(21))
    assert [row["lr_0"] for row in together] == [0.1] * 3 + [0.2] * 8 + [0.3] * 6 + [0.4] * 4
    assert [round(row["epoch"], 9) for row in together if "valid_loss" in row] == [*range(1, 7)]
    assert all(torch.equal(*pair) for pair in zip(weights, expected, strict=True))


def test_a_callback_that_a_fit_has_taken_away_logs_again_where_it_was_added(
    run, finished, tmp_path
):
    """After `fit(cbs=…)` of another learner, fastai leaves a callback without any learner."""
    shared = WandbCallback(log_preds=False)
    one, two = learners(tmp_path, [shared, None])
    two.fit(1, cbs=shared)
    one.fit(1)

    logged = finished(run)
    assert [row["train_step"] for row in logged.rows] == list(range(4 + 3))
    assert len(logged.column("valid_loss")) == 2
