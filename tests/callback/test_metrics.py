"""The names and the direction of metrics."""

from __future__ import annotations

import operator
from functools import partial

import pytest
import torch
from fastai.basics import accuracy
from fastai.callback.tracker import EarlyStoppingCallback

from samerun.callback.stream.metrics import distinct, smaller_is_better
from samerun.callback.wandb import WandbCallback
from samerun.callback.warn import LoggingWarning


def f_beta(preds, targets, beta):
    """Return a number that tells which beta it is of."""
    return torch.tensor(float(beta))


def test_two_metrics_of_one_name(run, learner, finished):
    """Both are logged, in their order, and that is said once."""
    metrics = [partial(f_beta, beta=1), partial(f_beta, beta=2), lambda *_: torch.tensor(3.0)]
    learn = learner(metrics=metrics, cbs=WandbCallback(log_preds=False))
    with pytest.warns(LoggingWarning, match="f_beta as f_beta_2") as said:
        learn.fit(2)

    logged = finished(run)
    assert logged.column("f_beta") == [1, 1]
    assert logged.column("f_beta_2") == [2, 2]
    assert logged.column("<lambda>") == [3, 3]
    assert logged.summary["best_f_beta_2"] == 2
    assert len([w for w in said if issubclass(w.category, LoggingWarning)]) == 1


@pytest.mark.parametrize("name", ["raw_loss", "lr_0", "epoch", "train_loss", "valid_loss"])
def test_a_metric_of_a_reserved_name(run, learner, finished, name):
    """The column keeps its own values, and the metric has a number."""
    function = lambda *_: torch.tensor(7.0)  # noqa: E731
    function.__name__ = name
    learn = learner(metrics=[function, accuracy], cbs=WandbCallback(log_preds=False))
    with pytest.warns(LoggingWarning, match=f"{name} as {name}_2"):
        learn.fit(1)

    logged = finished(run)
    assert logged.column(f"{name}_2") == [7]
    assert 7 not in logged.column(name)
    assert len(logged.column("accuracy")) == 1


def test_metrics_of_the_training_too(run, learner, finished):
    """With `train_metrics` each has its own name."""
    learn = learner(metrics=[accuracy], cbs=WandbCallback(log_preds=False))
    learn.recorder.train_metrics = True
    learn.fit(1)

    last = finished(run).rows[-1]
    assert {"train_accuracy", "valid_loss", "valid_accuracy"} <= last.keys()


def test_a_name_that_is_taken_is_passed_over():
    """Also by one that comes later."""
    values = [("f", 1), ("f", 2), ("f_2", 3), ("v", [4, 5]), ("v_0", 6), (None, 7), (None, 8)]
    found, _ = distinct(values)

    assert found == {
        "f": 1, "f_3": 2, "f_2": 3, "v_0": 4, "v_1": 5, "v_0_2": 6, "None": 7, "None_2": 8,
    }  # fmt: skip


SMALLER = (
    *("valid_loss", "error_rate", "exp_rmspe", "mape", "smape", "nll", "nll_score", "wer", "cer"),
    *("WER", "CharErrorRate", "fid", "FID", "kid", "rmse", "_rmse", "msle", "perplexity", "ppl"),
    *("mean_absolute_error", "hamming_loss", "brier_score", "hd95", "lpips", "kl_div", "eer"),
    *("ece", "crps", "mase", "KLDivergence", "bpc", "medae", "fpr", "MPJPE", "mean_pinball_loss"),
)
GREATER = (
    *("accuracy", "dice", "r2_score", "f1_score", "roc_auc_score", "jaccard", "precision", "bleu"),
    *("recall", "explained_variance", "top_k_accuracy", "iou", "psnr", "ssim", "dice_per_class"),
    *("neg_mean_squared_error", "d2_absolute_error_score", "MatthewsCorrCoef", "perfect", "cover"),
    *("inter", "fidelity", "concern", "pearson_corr_coef", "cohen_kappa", "score", "hit_rate"),
)


@pytest.mark.parametrize("name", SMALLER)
def test_smaller_is_better_by_name(name):
    """Errors, losses, distances and perplexities."""
    assert smaller_is_better(name)


@pytest.mark.parametrize("name", GREATER)
def test_greater_is_better_by_name(name):
    """All others, also where a name holds another's letters."""
    assert not smaller_is_better(name)


def test_what_tracks_the_metric_knows_better():
    """The comparison of a callback goes before the name."""
    assert smaller_is_better("score", [EarlyStoppingCallback("score", comp=operator.lt)])
    assert not smaller_is_better("loss", [EarlyStoppingCallback("loss", comp=operator.gt)])
