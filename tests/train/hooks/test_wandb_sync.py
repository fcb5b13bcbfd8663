"""Whatever is killed or refused, a sync ends with each row and artifact once on the server."""

import re
import signal
import sys
from pathlib import Path

import delivering
import pytest
from delivering import artifacts, deliver, doubled, rows, tear
from resuming import EVERY_EPOCH, EVERY_STEP, fork, log

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "standin"))
import wbserver

# Of 12 steps: the callback's and the script's rows, three of each epoch, charts, three more.
ROWS = 12 + 12 + 3 * 3 + 2 + 3
NOT_REPEATABLE = {"_timestamp", "_runtime", "_step", "train_samples_per_sec"}


@pytest.fixture(params=[False, True], ids=["rewrites", "appends"])
def server(request, tmp_path):
    """A stand-in; a second upload of a log rewrites rows there, or appends them."""
    folder, keys = tmp_path / "server", [delivering.KEY]
    count = {"report_line_count": request.param}
    with wbserver.make_server(folder, entity="ent", api_keys=keys, **count) as running:
        yield running


def training(folder, *kills, policy=EVERY_EPOCH, tear_at=None, **environment):
    """Train in *folder*, killed at these steps of each start, then to its end."""
    jobs = [(folder, ["own", "--kill", step]) for step in kills]
    codes = fork(jobs, policy, **environment) if jobs else []
    if tear_at is not None:
        tear(folder, tear_at)
    codes += fork([(folder, ["own"])], policy, **environment)
    assert codes == [*[-signal.SIGKILL] * len(kills), 0], log(folder)
    return folder


@pytest.fixture(scope="module")
def offline(tmp_path_factory):
    """Offline runs: undisturbed, killed twice, and with a log torn in its first block."""
    folder = tmp_path_factory.mktemp("offline")
    return {
        "whole": training(folder / "whole"),
        "killed": training(folder / "killed", 6, 4, policy=EVERY_STEP),
        "torn": training(folder / "torn", 9, tear_at=9000),
    }


def values(found):
    """Return the repeatable values of each row, as they are compared."""
    kept = [{k: v for k, v in row.items() if k not in NOT_REPEATABLE} for row in found]
    return sorted(str(sorted(_plain(row).items())) for row in kept)


def _plain(row):
    """Return a row without the names of files and artifacts, which differ in each start."""
    return {k: "media" if isinstance(v, dict) else v for k, v in row.items()}


@pytest.mark.parametrize("name", ["whole", "killed", "torn"])
def test_offline_run_is_delivered_once(offline, server, name):
    """All rows, tables, artifacts and the record, once; a second sync has nothing to send."""
    found = deliver(offline[name], server)
    received = len(delivering.run(server).received)
    again = deliver(offline[name], server)

    assert found.is_complete, found.line()
    assert found.rows == len(rows(server)) == ROWS
    assert found.doubled_rows == doubled(server) == 0
    assert again == found
    assert len(delivering.run(server).received) == received


def content(server):
    """Return rows and artifacts that the server has, as they are compared."""
    name = delivering.run(server).name
    # To a name with a slash wandb adds a hash of the run's.
    named = {re.sub(r"table-[\w-]{6}$", "table", k): n for k, n in artifacts(server).items()}
    return values(rows(server)), {k.replace(name, "ID"): n for k, n in named.items()}


@pytest.fixture(scope="module")
def undisturbed(offline, tmp_path_factory):
    """What the server has of the undisturbed run."""
    with wbserver.make_server(tmp_path_factory.mktemp("server"), entity="ent") as server:
        deliver(offline["whole"], server)
        return content(server)


@pytest.mark.parametrize("name", ["killed", "torn"])
def test_a_killed_run_has_the_content_of_an_undisturbed_one(offline, undisturbed, server, name):
    """A script's own rows, parts of rows, tables and artifacts among them."""
    deliver(offline[name], server)

    assert content(server) == undisturbed


REFUSED = [
    {"path": "file_stream", "status": 401, "times": 10**6},
    {"path": "graphql", "op": "CreateArtifact", "status": 401, "times": 10**6},
]
BUSY = [
    {"path": "file_stream", "status": 500, "seconds": 2.0},
    {"path": "graphql", "status": 429, "op": "CreateArtifact", "seconds": 2.0},
]


@pytest.mark.parametrize("faults", [REFUSED, BUSY], ids=["refused", "busy"])
def test_online_run_is_completed(undisturbed, server, tmp_path, monkeypatch, faults):
    """After a 401 for good, or some seconds of errors; killed, too (F7, F8)."""
    monkeypatch.setenv("WANDB_BASE_URL", server.url)
    monkeypatch.setenv("WANDB_API_KEY", delivering.KEY)
    server.store.faults = [wbserver.Fault(**fault) for fault in faults]
    folder = training(tmp_path / "run", 6, WANDB_MODE="online")
    server.store.faults = []

    found = deliver(folder, server)

    assert found.is_complete, found.line()
    assert found.doubled_rows == doubled(server) == 0
    assert content(server) == undisturbed
