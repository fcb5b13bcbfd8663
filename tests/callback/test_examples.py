"""The documentation's scripts run as they are given; only the downloads are made here."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import wandb
from fastai.data.external import fastai_cfg
from PIL import Image

import samerun.callback.wandb as ours

from .conftest import python_path, read_complete
from .test_applications import column

DOCUMENTED = Path(__file__).with_name("documented")
EXAMPLES = Path(__file__).parents[2] / "examples"
CODES = ("Sky", "Building", "Road", "Car", "Void")
# As the documentation has it, but for the first argument of wandb.init, which was the project.
AS_DOCUMENTED = (
    'wandb.init(project="pets")',
    'wandb.init(project="fastai_ddp", entity="capecape")',
)
# The hook, which every Python of the image loads first, and a small network under the name of
# the one that the scripts train; `test_pets` trains that one itself.
LOADED_FIRST = "import samerun.train.hook\nimport tests.callback.shallow\n"


@pytest.fixture(scope="module")
def downloads(tmp_path_factory):
    """Return a folder with what the scripts would download, but the weights: photos and masks."""
    home = tmp_path_factory.mktemp("home")
    _pets(home / "few" / "data" / "oxford-iiit-pet" / "images", 48)
    _pets(home / "many" / "data" / "oxford-iiit-pet" / "images", 160)
    _camvid(home / "few" / "data" / "camvid_tiny")
    return home


def _pets(folder, count):
    """Write photos: cats are red and begin with a capital, dogs are blue."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(count):
        pixels = rng.integers(0, 60, (40, 48, 3), dtype=np.uint8)
        pixels[..., 0 if i % 2 else 2] += 150
        name = "Abyssinian" if i % 2 else "beagle"
        Image.fromarray(pixels).save(folder / f"{name}_{i}.jpg")


def _camvid(folder):
    """Write 16 street scenes, sky above road, and their masks."""
    for name in ("images", "labels", "models"):
        (folder / name).mkdir(parents=True)
    (folder / "codes.txt").write_text("\n".join(CODES))
    (folder / "models" / "old.pth").write_text("no data")
    for i in range(16):
        mask = np.full((64, 96), 2, dtype=np.uint8)
        mask[: 20 + i] = 0
        mask[40:50, 4 * i : 4 * i + 12] = 3
        colors = np.array([(120, 170, 230), (150, 90, 60), (90, 90, 90), (190, 30, 30)], np.uint8)
        Image.fromarray(colors[mask]).save(folder / "images" / f"Seq_{i}.png")
        Image.fromarray(mask).save(folder / "labels" / f"Seq_{i}_P.png")


@pytest.fixture
def surroundings(downloads, resnets, monkeypatch):
    """Let scripts find the downloads, and our callback under fastai's name."""
    monkeypatch.setenv("FASTAI_HOME", str(downloads / "few"))
    monkeypatch.setitem(sys.modules, "fastai.callback.wandb", ours)
    fastai_cfg.cache_clear()
    wandb.teardown()  # It keeps the folder of the first test.
    yield
    fastai_cfg.cache_clear()


def run_script(name, tmp_path):
    """Run an example to its end; return what its run logged."""
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    (log,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    return read_complete(log)


def test_pets(surroundings, tmp_path, recwarn):
    """The photos, labels and predictions of both phases of fine_tune are in the run."""
    logged = run_script("pets.py", tmp_path)

    table = logged.table("Prediction_Samples")
    assert set(column(table, "Ground_Truth")) <= {"True", "False"}
    assert len(table["data"]) == 9
    assert logged.column("error_rate")[-1] <= 1
    assert len(logged.column("raw_loss")) == 2
    for value, label in zip(
        column(table, "Input image"), column(table, "Ground_Truth"), strict=True
    ):
        red, _, blue = np.array(Image.open(logged.media(value))).reshape(-1, 3).mean(axis=0)
        assert (red > blue) == (label == "True")
    assert not [str(w.message) for w in recwarn if "W&B" in str(w.message)]


def test_camvid(surroundings, tmp_path, recwarn):
    """Masks with the names of the classes, the data set without models, and the best model."""
    logged = run_script("camvid.py", tmp_path)

    table = logged.table("Prediction_Samples")
    data, model = (
        [a for a in logged.artifacts if a.type == kind][-1] for kind in ("dataset", "model")
    )
    assert "Ground_Truth" in column(table, "Ground_Truth")[0]["masks"]
    assert data.name == "camvid_tiny"
    assert len(data.files) == 16 + 16 + 1
    assert model.metadata["foreground_acc"] >= 0
    assert model.aliases == ["best", "latest"]
    assert not [str(w.message) for w in recwarn if "W&B" in str(w.message)]


def train_on_two(command, folder, downloads):
    """Run *command* in *folder*; it trains on two processes, and succeeds."""
    # WANDB_SERVICE would lead the processes to the wandb-core of this one.
    env = {k: v for k, v in os.environ.items() if k != "WANDB_SERVICE"} | python_path()
    # Each process needs a whole batch of 64.
    env |= {"ACCELERATE_USE_CPU": "true", "FASTAI_HOME": str(downloads / "many")}
    done = subprocess.run(
        command, cwd=folder, env=env,
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr[-3000:]


def test_distributed(surroundings, downloads, tmp_path):
    """The example trains on two processes, and logs one run."""
    script = (EXAMPLES / "ddp.py").read_text().replace(*AS_DOCUMENTED)
    start = 'import wandb\nwandb.require(experiment="service")\n'
    script = script.replace("import wandb\n", start, 1)
    (tmp_path / "train.py").write_text(f"{LOADED_FIRST}{script}")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
    command += ["--standalone", "--local-addr=127.0.0.1", "train.py"]
    train_on_two(command, tmp_path, downloads)

    (log,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    logged = read_complete(log)
    assert len(logged.column("raw_loss")) == 1
    assert len(logged.table("Prediction_Samples")["data"]) == 32
    assert wandb.run is None


@pytest.mark.parametrize("who", ["each", "main"])
@pytest.mark.parametrize("form", ["script", "notebook"])
def test_listings_of_the_documentation(surroundings, downloads, tmp_path, form, who):
    """Letter by letter: one run per process, or one on the main process only."""
    listing = (DOCUMENTED / f"{form}_{who}.py").read_text()
    (tmp_path / "train.py").write_text(LOADED_FIRST + listing)
    command = [sys.executable, "train.py"]
    if form == "script":
        command[1:1] = ["-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
        command[-1:] = ["--local-addr=127.0.0.1", "train.py"]
    train_on_two(command, tmp_path, downloads)

    logs = list(tmp_path.glob("wandb/offline-run-*/*.wandb"))
    assert len(logs) == {"each": 2, "main": 1}[who]
    for logged in map(read_complete, logs):
        assert (logged.project, logged.entity) == ("fastai_ddp", "capecape")
        assert len(logged.column("error_rate")) == 1
    assert len(read_complete(logs[0]).column("raw_loss")) == 1
