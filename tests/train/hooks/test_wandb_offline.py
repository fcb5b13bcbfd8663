"""A training whose W&B can't be reached goes on offline, whatever id and resume its run has."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from sample import sample

from samerun.core import record

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "standin"))
import delivering
import wbserver

SCRIPT = """
import json, sys
import samerun.train.hook, wandb
options = json.loads(sys.argv[1])
if options.pop("login", False):
    wandb.login()
run = wandb.init(mode="online", project="proj", **options)
for number in range(3):
    run.log({"loss": number})
print(json.dumps([run.id, run.offline]))
run.finish()
"""
MINE = {"id": "mine", "resume": "allow"}
DENIED = {"op": "UpsertBucket", "status": 200, "body": '{"errors": [{"message": "denied"}]}'}
# What the script and the environment say, and what the server does to every request; with None
# there is no server.
CASES = {
    "no id": ({}, {}, None),
    "allow": (MINE, {}, None),
    "must": ({**MINE, "resume": "must"}, {}, {"status": 401}),
    "never": ({**MINE, "resume": "never"}, {}, {"status": 409}),
    "environment": ({}, {"WANDB_RUN_ID": "mine", "WANDB_RESUME": "must"}, {"status": 500}),
    "fork": ({"fork_from": "old?_step=1"}, {}, None),
    "hang": (MINE, {}, {"hang": True}),
    "denied": (MINE, {}, DENIED),
    "login": ({"login": True}, {}, {"status": 401}),
}
UNREACHABLE = "http://127.0.0.1:9"


def serve(folder, fault=None):
    """Serve W&B; each request meets *fault*."""
    server = wbserver.make_server(
        folder, entity="ent", api_keys=[delivering.KEY], report_line_count=True
    )
    server.store.faults = [wbserver.Fault(**fault, seconds=600)] if fault else []
    return server


def begin(folder, url, argument, variables, script=SCRIPT):
    """Start the script in *folder*."""
    folder.mkdir()
    record.write(folder, sample())
    own = {
        "WANDB_BASE_URL": url,
        "WANDB_API_KEY": delivering.KEY,
        "WANDB_DIR": str(folder),
        "WANDB_INIT_TIMEOUT": "2",
        "WANDB_SILENT": "true",
        "WANDB_ERROR_REPORTING": "false",
        "HOME": str(folder),
        "SAMERUN_RECORD": str(folder / "run.json"),
    }
    environment = {k: v for k, v in os.environ.items() if k not in ("WANDB_MODE", "WANDB_SERVICE")}
    line = [sys.executable, "-c", script, argument]
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE) | {"text": True}
    return subprocess.Popen(line, env={**environment, **own, **variables}, **streams)


@pytest.fixture(scope="module")
def trainings(tmp_path_factory):
    """The folder, exit code, output and errors of each case: most of the time they wait."""
    top, started = tmp_path_factory.mktemp("offline"), {}
    with contextlib.ExitStack() as stack:
        for number, (name, (options, variables, fault)) in enumerate(CASES.items()):
            url = UNREACHABLE
            if fault is not None:
                url = stack.enter_context(serve(top / f"server{number}", fault)).url
            started[name] = begin(top / f"run{number}", url, json.dumps(options), variables)
        ended = {name: one.communicate(timeout=120) for name, one in started.items()}
    return {
        name: (top / f"run{number}", started[name].returncode, *ended[name])
        for number, name in enumerate(CASES)
    }


@pytest.mark.parametrize("name", CASES)
def test_training_goes_on_offline_with_the_id_that_it_was_given(trainings, name):
    """Whatever the script wants to resume, and however the server fails."""
    _, code, out, err = trainings[name]

    assert code == 0, err
    identity, is_offline = json.loads(out.splitlines()[-1])
    options, variables, _ = CASES[name]
    assert is_offline
    assert identity == {**variables, **options}.get("id", variables.get("WANDB_RUN_ID", identity))


def test_it_is_one_run_with_all_rows_after_a_sync(trainings, tmp_path):
    """The online start that failed has left nothing that counts."""
    folder, *_ = trainings["must"]
    with serve(tmp_path) as server:
        found = delivering.deliver(folder, server)

        assert found.is_complete, found.line()
        assert delivering.run(server).name == "mine"
        assert [row["loss"] for row in delivering.rows(server)] == [0, 1, 2]


def test_a_mistake_of_the_script_still_ends_it(tmp_path):
    """The server answers that there is no such run to resume."""
    with serve(tmp_path / "server") as server:
        training = begin(tmp_path / "run", server.url, json.dumps({**MINE, "resume": "must"}), {})
        _, err = training.communicate(timeout=60)

    assert training.returncode == 1
    assert "UsageError" in err


LOSES_SERVER = """
import sys
import samerun.train.hook, wandb
run = wandb.init(mode="online", project="proj")
print("begun", flush=True)
sys.stdin.readline()
for number in range(3):
    run.log({"loss": number})
artifact = wandb.Artifact("first", type="model")
with artifact.new_file("weights") as file:
    file.write("1")
run.log_artifact(artifact)
if "finish" in sys.argv:
    run.finish()
"""


@pytest.mark.parametrize("end", ["finish", "exit"])
def test_a_server_that_goes_for_good_neither_ends_nor_keeps_a_training(tmp_path, end):
    """Not at the first artifact, and not at the end; a sync uploads the rest."""
    with serve(tmp_path / "server") as server:
        quick = {"WANDB_FINISH_TIMEOUT": "3", "WANDB_SILENT": "false", "WANDB_HTTP_TIMEOUT": "3"}
        training = begin(tmp_path / "run", server.url, end, quick, LOSES_SERVER)
        training.stdout.readline()
    _, err = training.communicate("\n", timeout=60)

    assert training.returncode == 0, err
    assert "`invoke sync` uploads it" in err
    assert "Traceback" not in err
    assert "wandb sync" not in err
    with serve(tmp_path / "other") as server:
        found = delivering.deliver(tmp_path / "run", server)

        assert found.is_complete, found.line()
        assert [row["loss"] for row in delivering.rows(server)] == [0, 1, 2]
        assert delivering.artifacts(server)["first"] == 1
