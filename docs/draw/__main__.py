"""
Draw the pictures of docs/callback.md: ``python -m docs.draw`` in the root of the repository.

Each is what a real, offline run of a learner has logged, drawn as W&B's page draws it. It
takes about two minutes on two cores. A name or two as arguments draw only these.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

IMAGES = Path(__file__).resolve().parents[1] / "images"
os.environ |= {"WANDB_MODE": "offline", "WANDB_SILENT": "true"}

import wandb  # noqa: E402
from fastai.basics import set_seed  # noqa: E402
from PIL import Image  # noqa: E402
from tests.callback.conftest import finish  # noqa: E402
from tests.callback.wandblog import LoggedRun  # noqa: E402

from samerun.callback.wandb import WandbCallback  # noqa: E402

from . import charts, learners, tables  # noqa: E402

ROWS = {"tabular": 4, "tabular_regression": 4, "collaborative": 4, "text_classification": 3}


def trained(name: str, epochs: int | None = None, **options: Any) -> LoggedRun:
    """Train an application with the callback, and return what it logged."""
    make, usual, lr = learners.APPLICATIONS[name]
    set_seed(0)
    learn = learners.prepare(make(), Path.cwd())
    run = wandb.init(project="docs", settings=wandb.Settings(x_disable_stats=True))
    loader = options.pop("loader", None)
    if loader is not None:
        options["valid_dl"] = learn.dls.test_dl(loader, with_labels=True)
    learn.add_cb(WandbCallback(**options))
    learn.fit_one_cycle(epochs or usual, lr)
    return finish(run)


def samples(name: str) -> Image.Image:
    """Return the table of an application."""
    run = trained(name)
    table = run.table("Prediction_Samples")
    return tables.draw_table(run, table, "Prediction_Samples", rows=ROWS.get(name, 2))


def everything() -> dict[str, Image.Image]:
    """Return what a classification logs with all switches on."""
    data = Path("shapes")
    for i in range(9):
        for folder in ("train", "valid"):
            (data / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(learners.odd(i).image()).save(data / folder / f"{i}.png")
    run = trained(
        "classification",
        log="all",
        log_grad_norm=True,
        log_model=True,
        model_name="shapes-net",
        log_dataset=data,
        n_preds=8,
    )
    steps = ("train_loss", "raw_loss", "lr_0", "mom_0")
    each = [(key, "train_step") for key in steps]
    each += [(key, "epoch") for key in ("valid_loss", "accuracy", "error_rate")]
    each += [("train_samples_per_sec", "train_step")]
    artifacts = {a.type: a for a in run.artifacts if a.type in ("model", "dataset")}
    return {
        "rows": charts.draw_rows(run, each),
        "grad-norm": charts.draw_rows(run, [("grad_norm", "train_step")], columns=1),
        "histograms": charts.draw_histograms(
            run, ["gradients/0.weight", "parameters/0.weight", "parameters/14.weight"]
        ),
        "charts": charts.draw_classification(run),
        "top-losses": tables.draw_table(run, run.table("Top_Losses"), "Top_Losses", rows=3),
        "model": tables.draw_artifact(artifacts["model"]),
        "dataset": tables.draw_artifact(artifacts["dataset"]),
    }


def each_epoch() -> Image.Image:
    """Return the same items after the first epochs and after the last."""
    run = trained("segmentation", epochs=4, log_preds_every_epoch=True, n_preds=2)
    shown = [
        tables.draw_table(run, table, f"epoch {n}", rows=2)
        for n, table in enumerate(run.tables("Prediction_Samples"), 1)
    ]
    return charts.beside([shown[0], shown[1], shown[-1]])


def chosen() -> dict[str, Image.Image]:
    """Return tables of other items: by seed, and by a loader of one's own."""
    seeds = []
    for seed in (1, 2):
        run = trained("classification", epochs=2, n_preds=2, seed=seed)
        table = run.table("Prediction_Samples")
        seeds.append(tables.draw_table(run, table, f"n_preds=2, seed={seed}"))
    run = trained("classification", epochs=2, loader=[3, 1, 4])
    own = tables.draw_table(run, run.table("Prediction_Samples"), "valid_dl=three items")
    return {"seeds": charts.beside(seeds), "valid-dl": own}


def drawn() -> dict[str, Callable[[], Any]]:
    """Return what draws each picture, or several."""
    found: dict[str, Callable[[], Any]] = {
        name.replace("_", "-"): lambda name=name: samples(name) for name in learners.APPLICATIONS
    }
    return found | {"everything": everything, "each-epoch": each_epoch, "chosen": chosen}


def main(names: list[str]) -> None:
    """Draw all pictures, or those that are named."""
    IMAGES.mkdir(exist_ok=True)
    makers = drawn()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.environ["WANDB_DIR"] = folder
        for name in names or makers:
            made = makers[name]()
            for part, picture in (made if isinstance(made, dict) else {name: made}).items():
                file = IMAGES / f"callback-{part}.png"
                picture.save(file, optimize=True)
                print(f"{file.name}: {file.stat().st_size / 1000:.0f} kB, {picture.size}")


if __name__ == "__main__":
    main(sys.argv[1:])
