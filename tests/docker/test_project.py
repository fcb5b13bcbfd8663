"""A project of the usual shape, from its own repository: trained, killed, resumed, reproduced."""

import subprocess
import sys
from pathlib import Path

import pytest
from driving import environment

from samerun.core import record

FILES = {
    "requirements.txt": "pandas\n",
    "samerun.toml": "",
    ".gitignore": "photos/\n__pycache__/\n",
    "data/labels.csv": "x1,x2,y\n" + "".join(f"{i % 7},{i % 5},{i % 2}\n" for i in range(96)),
    "src/flora/__init__.py": "",
    "src/flora/nets.py": "LAYERS = [16]\n",
    "photos/big.jpg": "not code",
    "scripts/helper.py": "EPOCHS = 3\n",
    "scripts/train.py": """
import os, signal
from pathlib import Path
import pandas as pd
from fastai.tabular.all import *
from fastai.callback.wandb import WandbCallback
from fastai.distributed import *
import wandb
from flora.nets import LAYERS
from helper import EPOCHS

class Kill(Callback):
    def after_batch(self):
        is_first = not Path("killed").exists() and "-again-" not in Path("run.json").read_text()
        if self.epoch == 1 and is_first:
            Path("killed").write_text("")
            os.kill(0, signal.SIGKILL)

assert [p.name for p in Path("data").glob("*.csv")] == ["labels.csv"]
frame = pd.read_csv("data/labels.csv")
assert not Path("photos").exists()
dls = TabularDataLoaders.from_df(
    frame, path="data", cont_names=["x1", "x2"], y_names="y", y_block=CategoryBlock(), bs=8)
if rank_distrib() == 0:
    wandb.init(project="flora")
learn = tabular_learner(dls, layers=LAYERS, metrics=accuracy)
logs = [WandbCallback(log_preds=False)] if wandb.run else []
context = learn.distrib_ctx(sync_bn=False) if num_distrib() else learn.no_bar()
with context:
    learn.fit(EPOCHS, cbs=[Kill(), SaveModelCallback(), *logs])
if rank_distrib() == 0:
    learn.export("flora.pkl")
    with open("data/predictions.csv", "w") as file:
        file.write("done")
""",
}


@pytest.fixture
def project(tmp_path):
    """A git repository with the files above, committed but for one."""
    folder = tmp_path / "flora"
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    return folder


def samerun(project, *words):
    """Run the console command in the project's folder."""
    return subprocess.run(
        [sys.executable, "-m", "samerun.cli.main", *map(str, words)],
        cwd=project, env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("procs", [1, 2])
def test_project_is_trained_killed_resumed_and_reproduced(image, project, procs):
    """Its own package, a helper beside the script, relative reads, and files beside the data."""
    name = f"flora-{procs}"
    options = ("--gpus", "0", "--procs", procs, "--name", name, "--image", image["reference"])
    done = samerun(project, "train", "scripts/train.py", *options)
    assert done.returncode not in (0, 1), done.stderr
    done = samerun(project, "train", "--resume", name)
    assert done.returncode == 0, done.stderr
    done = samerun(project, "reproduce", f"runs/{name}", "--output", "again")
    assert "Verdict: identical." in done.stdout, done.stdout + done.stderr

    folder = project / "runs" / name
    run = record.read(folder)
    assert run.launch.target == "/code/scripts/train.py"
    assert (folder / "data" / "predictions.csv").read_text() == "done"
    assert list(folder.rglob("flora.pkl"))
    assert list(folder.rglob("model.pth"))
    assert not list(Path(project, "data").glob("predictions*"))
