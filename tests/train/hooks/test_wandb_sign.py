"""What a W&B run carries for whoever makes it again, read from a W&B stand-in."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest
import wandb

from samerun.core import contract, record
from samerun.train.hooks import wandb_sign

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "standin"))
import wbserver

SCRIPT = """
import samerun.train.hook, wandb
with wandb.init(mode="online", project="proj"):
    pass
"""


@pytest.fixture
def store(tmp_path):
    """The state of a stand-in on loopback."""
    with wbserver.make_server(tmp_path / "server", entity="ent") as server:
        yield server.store


def test_record_and_epochs_are_logged_and_the_link_is_in_the_config(store, folder):
    """Enough to make the run again, and to judge it, without the machine that ran it."""
    record.write(folder, dataclasses.replace(record.read(folder), reproduces="ent/proj/old"))
    (folder / contract.PARTS).mkdir()
    (folder / contract.STEPS).write_text("{}\n")
    surroundings = {
        "WANDB_BASE_URL": store.base,
        "WANDB_API_KEY": "k" * 40,
        "WANDB_DIR": str(folder),
        "SAMERUN_RECORD": str(folder / contract.RECORD),
    }

    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        check=False,
        env=os.environ | surroundings,
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr
    (run,) = store.runs.values()
    artifact = store.artifact(f"ent/proj/run-record-{run.name}")
    assert set(artifact.files) == {"run.json", "epochs.jsonl"}
    assert run.config["samerun"]["value"]["reproduces"] == "ent/proj/old"


DOCUMENTED = """
import samerun.train.hook, wandb
for _ in range(2):
    run = wandb.init("pets", entity="team")
    print(run.project, run.entity)
    run.finish()
try:
    wandb.init("pets", project="cats", entity="team")
except TypeError:
    print("refused")
"""


def test_a_first_text_beside_an_entity_is_the_project(tmp_path):
    """As W&B's documentation of fastai has it; it is said once. More than that is wandb's."""
    surroundings = {"WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path), "WANDB_SILENT": "false"}
    env = {k: v for k, v in os.environ.items() if k not in ("SAMERUN_RECORD", "WANDB_SERVICE")}

    done = subprocess.run(
        [sys.executable, "-c", DOCUMENTED],
        check=False,
        cwd=tmp_path,
        env=env | surroundings,
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["pets team", "pets team", "refused"]
    assert done.stderr.count("the first argument is taken for the project") == 1


# What `wandb.init` is given besides: none of it says which run is wanted.
GIVEN = ("", "settings=wandb.Settings(quiet=True)", "settings={'console': 'off'}, config={'b': 1}")
KILLED = """
import os, signal, samerun.train.hook, wandb
from samerun.train.hooks import wandb_sign
from samerun.train.report import reporting

reporting.started()
if reporting.start_number() == 1:
    # The server has the run; this process has not said so yet.
    wandb_sign.sign = lambda run: os.kill(os.getpid(), signal.SIGKILL)
with wandb.init(mode="online", project="proj", GIVEN) as run:
    run.log({"a": 1})
with wandb.init(mode="online", project="proj", name="second") as run:
    run.log({"a": 2})
"""


@pytest.mark.parametrize("given", GIVEN)
def test_a_kill_right_after_the_beginning_leaves_one_run(store, folder, given):
    """Its id follows from the samerun run, before the server hears of it."""
    surroundings = {
        "WANDB_BASE_URL": store.base,
        "WANDB_API_KEY": "k" * 40,
        "WANDB_DIR": str(folder),
        "SAMERUN_RECORD": str(folder / contract.RECORD),
    }
    environment = os.environ | surroundings
    command = [sys.executable, "-c", KILLED.replace("GIVEN", given)]
    codes = [subprocess.run(command, check=False, env=environment).returncode for _ in range(2)]

    assert codes == [-9, 0]
    assert len(store.runs) == 2
    assert sorted(row["a"] for run in store.runs.values() for row in run.history()) == [1, 2]


@pytest.mark.parametrize(
    ("given", "chooses"),
    [
        ({}, False),
        ({"settings": {"run_id": "mine"}}, True),
        ({"settings": wandb.Settings(run_id="mine")}, True),
        ({"settings": wandb.Settings(resume="must")}, True),
        ({"settings": wandb.Settings(x_disable_stats=True)}, False),
        ({"settings": None, "id": None, "project": "p"}, False),
        ({"id": "mine"}, True),
        ({"resume": "allow"}, True),
    ],
)
def test_what_says_which_run_is_wanted_is_left_alone(given, chooses):
    assert wandb_sign._chooses(given) == chooses


def test_programs_that_a_script_starts_have_runs_of_their_own(folder, monkeypatch):
    """Though each is the first call of the same rank."""
    monkeypatch.setenv("SAMERUN_RECORD", str(folder / contract.RECORD))
    monkeypatch.setattr(wandb_sign, "_inits", 0)
    first = wandb_sign._identity((), {})
    monkeypatch.setattr(wandb_sign, "_inits", 0)

    assert first != wandb_sign._identity((), {})
    assert wandb_sign._identity((), {"id": "mine"}) == {}
