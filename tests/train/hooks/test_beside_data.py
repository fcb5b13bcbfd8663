"""What fastai writes beside its data goes to the run's folder where it can't stay there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from resuming import FRAMEWORKS, ours, settings

from samerun.train.hooks import beside_data

HERE = Path(__file__).resolve().parents[1]
SCRIPT = HERE / "beside_data.py"
PRETRAIN = """
import sys; sys.path.insert(0, {here!r})
import torch
from ddp_learners import net
torch.save(net().state_dict(), {file!r})
"""


@pytest.fixture
def data(tmp_path):
    """Downloaded data, which vanishes with the container, with a model in it."""
    folder = tmp_path / "downloads" / "pets"
    (folder / "models").mkdir(parents=True)
    code = PRETRAIN.format(here=str(HERE), file=str(folder / "models" / "pretrained.pth"))
    assert FRAMEWORKS.run(code, {**os.environ}).returncode == 0
    return folder


def train(folder, data, procs):
    entry = ["-m", "samerun.train", "--procs", str(procs), SCRIPT, data]
    environment = {"FASTAI_HOME": str(data.parent), "SAMERUN_GPUS": "0"}
    return subprocess.run(
        [sys.executable, *map(str, entry)],
        cwd=folder,
        env={**ours(), **settings(folder, "epochs=1"), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize("procs", [1, 2])
def test_all_that_fastai_saves_is_in_the_runs_folder_and_is_found_again(folder, data, procs):
    """export, save, lr_find, SaveModelCallback, CSVLogger, a user's callback; said once."""
    before = sorted(path for path in data.rglob("*"))

    done = train(folder, data, procs)

    assert done.returncode == 0, done.stderr
    assert sorted(path for path in data.rglob("*")) == before
    names = ["before", "best", "after", "absolute"]
    assert sorted(p.stem for p in (folder / "models").glob("*.pth")) == sorted(names)
    for name in ("before.pkl", "export.pkl", "absolute.pkl", "history.csv", "own/1.txt"):
        assert (folder / name).is_file(), name
    assert done.stderr.count("so what fastai writes there goes to") == 1


@pytest.fixture
def hook(folder, tmp_path, monkeypatch):
    """The module, in a run whose data is a download."""
    monkeypatch.setenv("SAMERUN_RECORD", str(folder / "run.json"))
    monkeypatch.setenv("FASTAI_HOME", str(tmp_path / "downloads"))
    monkeypatch.setattr(beside_data, "_replaced", [tmp_path / "downloads" / "pets"])
    monkeypatch.setattr(beside_data, "_told", [])
    return beside_data


def test_only_what_can_not_be_written_or_kept_goes_elsewhere(hook, folder, tmp_path, monkeypatch):
    """A new folder counts as the one that it would be in; the run's own folder is always kept."""
    assert hook.is_lost(tmp_path / "downloads" / "pets")
    assert not hook.is_lost(tmp_path / "mine" / "deep")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert hook.is_lost(tmp_path / "mine" / "deep")
    assert not hook.is_lost(folder / "models" / "x")
    assert hook.is_lost(folder / ".." / "data")


def test_a_file_keeps_its_place_below_the_folder_that_was_replaced(hook, folder, tmp_path):
    """Others keep their names; what is relative is the learner's."""
    downloads = tmp_path / "downloads"

    assert hook._target(downloads / "pets" / "a" / "x.pkl") == folder / "a" / "x.pkl"
    assert hook._target(str(downloads / "other" / "x.pkl")) == folder / "x.pkl"
    assert hook._target("models/x") == "models/x"
    assert hook._target(folder / ".." / "downloads" / "pets" / "x") == folder / "x"
    save = hook._writing(lambda self, file="export.pkl", with_opt=True: (file, with_opt))
    asked = downloads / "pets" / "x"
    assert save(None, asked, with_opt=False) == save(None, file=asked, with_opt=False)
    assert save(None) == ("export.pkl", True)
    assert hook._target(tmp_path / "x") == tmp_path / "x"


def test_tokens_are_written_to_the_run_unless_they_are_there(hook, folder, tmp_path):
    """TextDataLoaders.from_folder writes FOLDER_tok, beside the folder of texts."""
    texts = tmp_path / "downloads" / "imdb"
    call = hook._tokenizing(lambda func, files, path, output_dir=None: output_dir)

    assert call(None, [], texts) == folder / "imdb_tok"
    assert call(None, [], texts, output_dir=tmp_path) == tmp_path
    (tmp_path / "downloads" / "imdb_tok").mkdir(parents=True)
    (tmp_path / "downloads" / "imdb_tok" / "counter.pkl").touch()
    assert call(None, [], texts) is None


def test_weights_beside_the_data_are_given_to_a_text_learner(hook, folder, tmp_path):
    """fastai makes their paths from the learner's, which is now another one."""

    class Learn:
        path, model_dir = hook._attribute("path"), "models"

    weights = tmp_path / "downloads" / "pets" / "models" / "lm.pth"
    weights.parent.mkdir(parents=True)
    weights.touch()
    learn = Learn()
    learn.path = tmp_path / "downloads" / "pets"

    assert learn.path == folder
    assert hook._original(learn, learn.path / "models" / "lm.pth") == weights
    assert hook._source(learn, "lm") == weights.with_suffix("")
    (folder / "models").mkdir()
    (folder / "models" / "lm.pth").touch()
    assert hook._original(learn, learn.path / "models" / "lm.pth") == folder / "models" / "lm.pth"
    assert hook._source(learn, "lm") == "lm"
