"""Classify tumors in scikit-learn's breast cancer table, 569 rows, as benign or malignant."""

from typing import Annotated

from fastai.tabular import all as tabular
from sklearn.datasets import load_breast_cancer

from samerun.train.session import Session


def train(
    session: Session,
    *,
    epochs: Annotated[int, "passes over the training set"] = 8,
    lr: Annotated[float, "peak of the one-cycle schedule"] = 1e-2,
    batch_size: Annotated[int, "rows per step and process"] = 32,
) -> None:
    """Train a small network on 30 measurements of each tumor."""
    learn = tabular.tabular_learner(
        load(session.seed, batch_size),
        layers=[64, 32],
        metrics=tabular.accuracy,
        path=session.output,
    )
    with session.logged(learn):
        learn.fit_one_cycle(epochs, lr)
    if session.is_main:
        learn.export("model.pkl")


def load(seed: int, batch_size: int) -> tabular.DataLoaders:
    """Return loaders of 30 normalized columns, one fifth of the rows held out."""
    bunch = load_breast_cancer(as_frame=True)
    # Plain strings: scikit-learn returns numpy strings, which JSON and W&B tables refuse.
    table = bunch.frame.rename(columns=str)
    names = [str(name) for name in bunch.feature_names]
    table["diagnosis"] = [str(bunch.target_names[i]) for i in table.pop("target")]
    splits = tabular.RandomSplitter(seed=seed)(range(len(table)))
    frame = tabular.TabularPandas(
        table,
        procs=[tabular.Normalize],
        cont_names=names,
        y_names="diagnosis",
        y_block=tabular.CategoryBlock(),
        splits=splits,
    )
    return frame.dataloaders(bs=batch_size, num_workers=0)
