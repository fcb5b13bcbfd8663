"""The documented interface, sentence by sentence, on real learners and offline runs."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import runpy
from pathlib import Path

import pytest
import torch
import wandb
from fastai.callback.core import Callback
from fastai.callback.tracker import SaveModelCallback
from fastcore.basics import camel2snake

import samerun.callback.wandb as ours
from samerun.callback.artifacts import dataset_artifact
from samerun.callback.wandb import WandbCallback, log_dataset, log_model
from samerun.callback.warn import LoggingWarning

from .applications import ITEMS, make
from .test_applications import column


def fastais():
    """Return the functions of fastai's own module, read and not imported: ours may stand in."""
    source = Path(importlib.util.find_spec("fastai").origin).parent / "callback" / "wandb.py"
    tree = ast.parse(source.read_text())
    functions = {n.name: n for n in tree.body if isinstance(n, ast.FunctionDef)}
    (cls,) = (n for n in tree.body if isinstance(n, ast.ClassDef))
    return functions | {n.name: n for n in cls.body if isinstance(n, ast.FunctionDef)}


def signature(node):
    """Return names and defaults of a function's arguments."""
    names = [argument.arg for argument in node.args.args]
    values = [ast.literal_eval(value) for value in node.args.defaults]
    return dict(zip(names, [None] * (len(names) - len(values)) + values, strict=True))


@pytest.mark.parametrize("name", ["__init__", "log_dataset", "log_model", "wandb_process"])
def test_signatures_are_fastais(name):
    """All arguments of fastai's, in their order, with their defaults; ours only by name."""
    function = WandbCallback.__init__ if name == "__init__" else getattr(ours, name)
    if name == "wandb_process":
        function = function.methods[0].implementation
    found = inspect.signature(function).parameters.values()
    own = {p.name for p in found if p.kind is p.KEYWORD_ONLY}

    expected = signature(fastais()[name])
    assert [p.name for p in found if p.name not in own] == list(expected)
    defaults = {p.name: p.default for p in found if p.default is not p.empty and p.name not in own}
    # Our default metadata can't be changed by accident, but they are as empty.
    assert {k: {} if k == "metadata" else v for k, v in defaults.items()} == {
        k: v for k, v in expected.items() if k in defaults
    }


def test_star_import_gives_the_four_names(tmp_path):
    """``from samerun.callback.wandb import *`` gives what fastai's module gives."""
    script = tmp_path / "script.py"
    script.write_text("from samerun.callback.wandb import *\n")

    names = {name for name in runpy.run_path(str(script)) if not name.startswith("__")}

    assert names == {"WandbCallback", "log_dataset", "log_model", "wandb_process"}


def test_learner_has_the_callback_under_its_name(learner):
    """``learn.wandb`` is the callback, as with fastai's."""
    callback = WandbCallback()

    assert learner(cbs=callback).wandb is callback
    assert camel2snake("WandbCallback").removesuffix("_callback") == "wandb"


def steps_of(rows):
    """Return step and epoch of all rows of training."""
    return [(row["train_step"], round(row["epoch"], 3)) for row in rows if "raw_loss" in row]


def test_callback_of_the_learner_logs_all_phases(run, learner, finished):
    """Steps and epochs go on from fit to fit, whichever schedule each has."""
    learn = learner(cbs=WandbCallback(log_preds=False))
    learn.fit(1)
    learn.fit_one_cycle(2)
    learn.fit_flat_cos(1)
    learn.lr_find(num_it=3, show_plot=False)
    learn.fine_tune(1)

    logged = finished(run)
    expected = [(i, round((i + 1) / 3, 3)) for i in range(3 * 6)]
    assert steps_of(logged.rows) == expected
    assert [row["epoch"] for row in logged.rows if "valid_loss" in row] == [1, 2, 3, 4, 5, 6]


def test_callback_of_a_fit_logs_that_fit_only(run, learner, finished):
    """What is fitted before and after is not in the run; two logged fits follow each other."""
    learn = learner()
    learn.fit(1)
    learn.fit(1, cbs=WandbCallback(log_preds=False))
    learn.fit(1)
    learn.fit_one_cycle(1, cbs=WandbCallback(log_preds=False))

    assert [step for step, _ in steps_of(finished(run).rows)] == list(range(6))
    assert not hasattr(learn, "wandb")


@pytest.mark.parametrize("schedule", ["fit_one_cycle", "fit_flat_cos"])
def test_schedule_is_in_the_rows(run, learner, finished, schedule):
    """The learning rate of each row is the one that its step was made with."""
    learn = learner(cbs=WandbCallback(log_preds=False))
    getattr(learn, schedule)(2)

    assert finished(run).column("lr_0") == pytest.approx(learn.recorder.lrs)


def test_losses_and_metrics_are_always_logged(run, learner, finished):
    """Without histograms, samples, model and dataset, losses and metrics are there."""
    learn = learner(cbs=WandbCallback(log=None, log_preds=False))
    learn.fit(2)

    logged = finished(run)
    assert len(logged.column("raw_loss")) == 6
    assert logged.column("train_loss") == pytest.approx([v.item() for v in learn.recorder.losses])
    values = torch.tensor(learn.recorder.values)
    assert logged.column("valid_loss") == pytest.approx(values[:, 1].tolist())
    assert logged.column("accuracy") == pytest.approx(values[:, 2].tolist())
    assert logged.artifacts == []


def test_no_predictions(run, finished, tmp_path):
    """``log_preds=False`` logs neither samples nor charts."""
    learn = make("classification", tmp_path)
    learn.fit(1, cbs=WandbCallback(log_preds=False))

    assert finished(run).artifacts == []


@pytest.mark.parametrize(("every", "tables"), [(False, 1), (True, 3)])
def test_predictions_every_epoch_or_at_the_end(run, finished, tmp_path, every, tables):
    """A table per epoch, with the epoch's number, or one at the end."""
    learn = make("classification", tmp_path)
    learn.fit(3, cbs=WandbCallback(log_preds_every_epoch=every))

    logged = finished(run)
    assert len(logged.tables("Prediction_Samples")) == tables
    rows = [row for row in logged.rows if "Prediction_Samples" in row]
    assert [row["epoch"] for row in rows] == ([1, 2, 3] if every else [3])


@pytest.mark.parametrize(("every", "times"), [(False, 1), (True, 2)])
def test_subclass_that_logs_its_own_predictions(run, learner, finished, every, times):
    """``log_predictions`` may be overridden, and its error is a warning."""
    called = []

    class Own(WandbCallback):
        def log_predictions(self):
            called.append(self.learn.epoch)
            raise KeyError(self.learn.epoch)

    with pytest.warns(LoggingWarning, match="prediction samples"):
        learner().fit(2, cbs=Own(log_preds_every_epoch=every))

    assert len(called) == times
    assert len(finished(run).column("raw_loss")) == 6


@pytest.mark.parametrize("application", ["classification", "tabular"])
def test_subclass_that_logs_the_predictions_that_fastai_fetches(
    run, finished, tmp_path, application
):
    """``learn.fetch_preds`` is there, of the loader ``valid_dl``; the weights stay the same."""
    seen = []

    class Own(WandbCallback):
        def log_predictions(self):
            inputs, preds, targets, decoded = self.learn.fetch_preds.preds
            batch = (*(inputs if isinstance(inputs, tuple) else (inputs,)), targets)
            shown = self.valid_dl.show_results(batch, decoded, show=False, max_n=self.n_preds)
            seen.append((len(preds), len(targets), len(shown)))

    weights = []
    for callback in (Own(n_preds=5), WandbCallback(n_preds=5)):
        learn = make(application, tmp_path)
        learn.fit(2, cbs=callback)
        weights.append([parameter.detach().clone() for parameter in learn.model.parameters()])

    assert [(n, m) for n, m, _ in seen] == [(5, 5)]
    assert all(torch.equal(one, two) for one, two in zip(*weights, strict=True))
    assert not hasattr(learn, "fetch_preds")
    assert len(finished(run).column("raw_loss")) > 0


def test_number_of_predictions(run, finished, tmp_path):
    """``n_preds`` rows, and 36 if nothing is said and there are as many."""
    learn = make("tabular", tmp_path)
    learn.fit(1, cbs=WandbCallback(n_preds=2))
    learn.fit(1, cbs=WandbCallback())

    sizes = [len(table["data"]) for table in finished(run).tables("Prediction_Samples")]
    assert sizes == [2, min(36, len(learn.dls.valid_ds))]


def test_more_predictions_than_a_batch_has(run, finished, tmp_path):
    """Items are predicted batch by batch, up to ``n_preds`` of a given loader."""
    learn = make("classification", tmp_path)
    loader = learn.dls.test_dl(list(range(ITEMS)), with_labels=True)
    learn.fit(1, cbs=WandbCallback(valid_dl=loader, n_preds=7))

    table = finished(run).table("Prediction_Samples")
    assert column(table, "Ground_Truth") == [("cat", "dog")[i % 2] for i in range(7)]


@pytest.mark.parametrize("own_saver", [False, True])
def test_model_name_is_that_of_file_and_artifact(run, learner, finished, tmp_path, own_saver):
    """``model_name`` overrides the ``fname`` of a SaveModelCallback that may be there."""
    cbs = [SaveModelCallback(fname="mine")] if own_saver else []
    learn = learner(cbs=[*cbs, WandbCallback(log_preds=False, log_model=True, model_name="net")])
    learn.fit(2)

    (artifact,) = finished(run).artifacts
    assert (artifact.name, list(artifact.files)) == ("net", ["net.pth"])
    assert (tmp_path / "models" / "net.pth").is_file()
    assert not (tmp_path / "models" / "mine.pth").exists()


def test_artifact_holds_the_best_model(run, learner, finished, tmp_path):
    """The file in the artifact has the weights of the epoch of the lowest loss."""
    kept = []
    learn = learner(cbs=WandbCallback(log_preds=False, log_model=True))

    learn.add_cb(Keep(kept))
    learn.fit(4, lr=0.3)

    losses = [values[1] for values in learn.recorder.values]
    (artifact,) = finished(run).artifacts
    learn.model.load_state_dict(torch.load(artifact.files["model.pth"]))
    assert torch.equal(model_weights(learn), kept[losses.index(min(losses))])
    assert set(artifact.metadata) == {"epoch", "valid_loss", "accuracy"}


def model_weights(learn):
    """Return what a model file holds: parameters and buffers, not the optimizer."""
    return torch.cat([v.flatten().double() for v in learn.model.state_dict().values()])


class Keep(Callback):
    """Keep the weights after each epoch."""

    order = 10

    def __init__(self, kept):
        self.kept = kept

    def after_epoch(self):
        self.kept.append(model_weights(self.learn))


@pytest.fixture
def folder(tmp_path):
    """Return the folder of the data loaders, with models at two levels."""
    data = tmp_path / "toys"
    for name in ("a.txt", "models/model.pth", "train/b.txt", "train/deep/models/c.pth"):
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).write_text(name)
    return data


@pytest.mark.parametrize("form", [True, "path", Path])
def test_dataset_of_the_loaders_or_of_a_path(run, learner, finished, folder, form):
    """True is the folder of the loaders; else a path, as a string or not."""
    learn = learner()
    learn.dls.path = folder if form is True else Path("elsewhere")
    given = {True: True, "path": str(folder), Path: folder}[form]
    learn.fit(1, cbs=WandbCallback(log_preds=False, log_dataset=given))

    (artifact,) = finished(run).artifacts
    assert (artifact.name, artifact.type) == ("toys", "dataset")
    assert set(artifact.files) == {"a.txt", "train/b.txt"}


def test_no_dataset_unless_asked(run, learner, finished, folder):
    """The default logs none."""
    learn = learner()
    learn.dls.path = folder
    learn.fit(1, cbs=WandbCallback(log_preds=False))

    assert finished(run).artifacts == []


def test_dataset_by_reference_from_the_callback(run, learner, finished, folder):
    """``dataset_reference=True`` logs where the files are and their checksums."""
    callback = WandbCallback(log_preds=False, log_dataset=folder, dataset_reference=True)
    learner().fit(1, cbs=callback)

    (artifact,) = finished(run).artifacts
    assert artifact.files["a.txt"] == (folder / "a.txt").as_uri()


def test_reference_changes_with_the_content(run, folder):
    """A file that changes changes the version: its checksum is in the reference."""
    first = dataset_artifact(folder, "toys", {}, "", reference=True).digest
    same = dataset_artifact(folder, "toys", {}, "", reference=True).digest
    (folder / "a.txt").write_text("other")
    other = dataset_artifact(folder, "toys", {}, "", reference=True).digest

    assert first == same != other


def test_dataset_and_model_by_hand(run, finished, folder):
    """Name, metadata and default names of what is logged by hand."""
    log_dataset(folder)
    log_dataset(folder, "named", {"items": 2})
    log_model(folder / "models" / "model.pth")
    log_model(folder / "models" / "model.pth", "net", metadata={"loss": 0.5})

    data, named, model, net = finished(run).artifacts
    assert (data.name, data.metadata) == ("toys", {})
    assert (named.name, named.metadata) == ("named", {"items": 2})
    assert model.name.startswith("run-")
    assert (net.name, net.metadata, list(net.files)) == ("net", {"loss": 0.5}, ["net.pth"])
    assert net.aliases == ["latest"]


def test_run_of_a_context_manager(learner, tmp_path):
    """``with wandb.init(...)`` around a fit logs it, as the documentation shows."""
    with wandb.init(project="test") as run:
        learner(cbs=WandbCallback(log_preds=False)).fine_tune(1)
        assert run.step == 6
