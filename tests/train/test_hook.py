"""The hook that every Python of the image loads."""

import json
import os
import subprocess
import sys

import pytest
from resuming import FRAMEWORKS

from samerun.core import parts, record

SIGNED = """
import json, wandb
run = wandb.init(mode="offline", tags={tags!r})
print(json.dumps([list(run.tags), run.config["samerun"]["digest"]]))
{end}
"""


def python(code, **environment):
    """Run *code* in a Python of its own, with the hook as the image has it."""
    return subprocess.run(
        [sys.executable, "-c", "import samerun.train.hook\n" + code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def preloaded_python(code, **environment):
    """As `python`, but what fastai loads of others was loaded before the hook, which lets it be."""
    return FRAMEWORKS.run("import samerun.train.hook\n" + code, {**os.environ, **environment})


def test_documented_import_gives_our_callback():
    """Scripts written for fastai.callback.wandb run unchanged."""
    code = (
        "from fastai.callback.wandb import *; import fastai.callback.wandb as m;"
        "print(WandbCallback.__module__, m.__name__, callable(log_model))"
    )

    assert python(code).stdout.split() == [
        "samerun.callback.wandb",
        "samerun.callback.wandb",
        "True",
    ]


def test_hook_loads_nothing_by_itself():
    """A Python without frameworks pays nothing for it."""
    code = (
        "import sys; print([m for m in ('wandb', 'torch', 'fastai', 'json') if m in sys.modules])"
    )

    assert python(code).stdout.strip() == "[]"


@pytest.mark.parametrize("end", ["run.finish()", "wandb.finish()", ""])
def test_every_run_is_signed_and_carries_its_record(folder, end):
    """However the run ends: the digest beside the script's own tags, and one record artifact."""
    code = SIGNED.format(tags=["own"], end=end)

    done = python(code, SAMERUN_RECORD=str(folder / "run.json"), WANDB_DIR=str(folder))

    tags, digest = json.loads(done.stdout.splitlines()[0])
    assert tags == ["own", "a" * 64]
    assert digest == "a" * 64
    (reported,) = parts.assemble(folder, record.read(folder)).wandb
    assert reported.mode == "offline"
    assert (folder / reported.dir).is_dir()
    assert "samerun:" not in done.stderr


def test_broken_record_does_not_stop_the_script(folder):
    """Logging never harms training: one line on stderr, exit code 0."""
    (folder / "run.json").write_text("{")

    done = python(
        "import wandb; wandb.init(mode='offline'); print('went on')",
        SAMERUN_RECORD=str(folder / "run.json"),
        WANDB_DIR=str(folder),
    )

    assert done.returncode == 0
    assert "went on" in done.stdout
    assert "could not sign" in done.stderr


def test_disabled_wandb_is_left_alone(folder):
    """WANDB_MODE=disabled: no tag, no file."""
    done = python(
        "import wandb; print(wandb.init().disabled)",
        SAMERUN_RECORD=str(folder / "run.json"),
        WANDB_MODE="disabled",
    )

    assert done.stdout.strip() == "True"
    assert "samerun:" not in done.stderr
    assert parts.assemble(folder, record.read(folder)).wandb == ()


def test_unreachable_server_leaves_the_run_offline(folder):
    """Any script's, after seconds, with a warning that names the reason."""
    code = "import wandb; run = wandb.init(project='p'); print(run.offline); run.finish()"
    settings = {"WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": "k" * 40}
    settings |= {"WANDB_MODE": "online", "WANDB_INIT_TIMEOUT": "2", "WANDB_SILENT": "false"}
    settings |= {"SAMERUN_RECORD": str(folder / "run.json"), "WANDB_DIR": str(folder)}
    done = python(code, **settings)

    assert "True" in done.stdout.split(), done.stderr
    assert "recorded offline" in done.stderr


TRAINS = """
{imports}
import torch
from torch import nn
from torch.utils.data import TensorDataset
from fastai.data.core import DataLoaders
from fastai.data.load import DataLoader
from fastai.learner import Learner
x = torch.randn(8, 2)
dls = DataLoaders(*[DataLoader(TensorDataset(x, x), bs=4) for _ in range(2)])
Learner(dls, nn.Linear(2, 2), loss_func=nn.MSELoss()).fit(1)
"""


@pytest.mark.parametrize(
    "imports",
    [
        "",
        "from fastai.basics import *",
        "from fastai.learner import *",
        "from fastai.vision.learner import *",
        "from fastai.tabular.learner import *",
        "from fastai.data.all import *",
        "from fastai.callback.wandb import *",
        "from fastai.vision.all import *",
    ],
)
def test_any_script_that_trains_gets_checkpoints(folder, imports):
    """Whatever it imports of fastai; README: scripts need no change."""
    done = preloaded_python(
        TRAINS.format(imports=imports),
        SAMERUN_RECORD=str(folder / "run.json"),
        SAMERUN_CHECKPOINTS="epochs=1,batches=1,minutes=0,keep=2",
    )

    assert done.returncode == 0, done.stderr
    assert "is used without" not in done.stderr
    assert list((folder / "checkpoints").glob("*.pt"))


LISTS = """
import glob, os, pathlib
print(os.listdir(".") == sorted(os.listdir(".")))
print([e.name for e in os.scandir(".")] == sorted(os.listdir(".")))
print([p.name for p in pathlib.Path(".").iterdir()] == sorted(os.listdir(".")))
print([p.name for p in pathlib.Path(".").glob("*.t")] == sorted(os.listdir(".")))
print(glob.glob("*.t") == sorted(os.listdir(".")))
print(next(os.walk("."))[2] == sorted(os.listdir(".")))
with os.scandir(".") as entries: print(next(entries).name == min(os.listdir(".")))
try: os.scandir("absent")
except FileNotFoundError: print(True)
"""


def test_folders_are_listed_by_name_on_every_disk(folder, tmp_path, monkeypatch):
    """Else a split with a seed is another one on another file system; --fast leaves it."""
    place = tmp_path / "files"
    place.mkdir()
    for number in (7, 3, 9, 1, 8, 2, 5, 0, 6, 4):
        (place / f"{number * 7919 % 101}.t").touch()
    monkeypatch.chdir(place)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))

    done = python(LISTS, SAMERUN_RECORD=str(folder / "run.json"))

    assert done.stdout.split() == ["True"] * 8, done.stderr


DIES = """
import os, pathlib, signal, time, wandb
run = wandb.init(mode="offline")
run.log({"a": 1})
for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
    try: name, rest = stat.read_text().rpartition(")")[::2]
    except OSError: continue
    if "wandb-core" in name and int(rest.split()[1]) == os.getpid():
        os.kill(int(stat.parent.name), signal.SIGKILL)
time.sleep(1)
for n in range(3):
    run.log({"a": n})
    time.sleep(0.2)
print("trained")
run.finish()
print("finished")
"""


def test_a_training_that_outlives_wandb_core_is_a_training_that_finished(folder):
    """The kernel kills it first where memory runs out; whatever W&B does, the training goes on."""
    done = python(DIES, SAMERUN_RECORD=str(folder / "run.json"), WANDB_DIR=str(folder))

    assert done.stdout.split()[-2:] == ["trained", "finished"], done.stderr
    assert done.returncode == 0
    assert done.stderr.count("W&B's own process has ended") == 1
