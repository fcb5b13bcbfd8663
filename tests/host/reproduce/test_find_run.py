import dataclasses
import json
import sys
from pathlib import Path

import pytest

from samerun.core import record
from samerun.core.errors import KeyFileError, OutputError, RecordError
from samerun.host.reproduce import find_run
from samerun.host.tracking import keys, records

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "standin"))
import wbserver

KEY = keys.Key(value="k" * 40, source="a test")
PATH = records.Path(entity="ent", project="proj", id="abc123")


@pytest.mark.parametrize(
    "name",
    [
        "ent/proj/abc123",
        "ent/proj/runs/abc123",
        "https://wandb.ai/ent/proj/runs/abc123",
        "http://127.0.0.1:8080/ent/proj/runs/abc123/",
    ],
)
def test_a_run_in_wandb_is_named_by_path_or_address(name):
    """As W&B writes it, and as a browser does."""
    assert find_run.in_wandb(name) == PATH


@pytest.mark.parametrize("name", ["abc", "a/b", "/a/b/c", "a/b/c/d", "a//c", "a/b/c?x=1"])
def test_other_names_are_no_wandb_path(name):
    """They would be asked for in vain."""
    assert find_run.in_wandb(name) is None


def test_a_local_run_is_found_by_name_and_by_folder(run, tmp_path):
    """The link is its name either way."""
    folder = tmp_path / "runs" / "digits-1"
    folder.mkdir(parents=True)
    record.write(folder, run)

    for name in ("digits-1", str(folder)):
        found = find_run.find(name, str(tmp_path / "runs"), None)
        assert (found.link, found.folder, found.where) == ("digits-1", folder, "here")


def test_an_unknown_run_is_told_where_it_was_looked_for(tmp_path):
    """With the three forms that a name can have."""
    with pytest.raises(OutputError, match="entity/project/id"):
        find_run.find("nosuch", str(tmp_path), None)


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A W&B stand-in on loopback that takes our key and no other."""
    keys = [KEY.value]
    with wbserver.make_server(tmp_path / "server", entity="ent", api_keys=keys) as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        yield server


@pytest.fixture
def logged(server, run, monkeypatch):
    """Log a record as the container does, without W&B's own client."""

    def log(kind="run-record", **files):
        files = {"run.json": record.to_json(run), **files}
        store = server.store
        store.create_project("ent", "proj")
        store.put_artifact("ent/proj/run-record-abc123", kind, files)
        return server

    monkeypatch.setenv("WANDB_API_KEY", KEY.value)
    return log


def test_a_record_is_read_through_the_api(logged, run):
    """Record and lines per epoch, by the path; the link is that path."""
    epoch = {"fit": 0, "epoch": 0, "metrics": {}, "losses": ["0x1p-1"], "tensors": {}}
    server = logged(**{"epochs.jsonl": json.dumps(epoch)})

    found = find_run.find("ent/proj/abc123", "runs", None)

    assert found.run == run
    assert found.trace.exact
    assert (found.link, found.where, found.folder) == ("ent/proj/abc123", "W&B", None)
    assert not server.store.unknown


def test_a_run_without_a_record_is_told(server, logged):
    """Its path may be wrong, or it was no run of ours."""
    with pytest.raises(RecordError, match="no record of ent/proj/abc123"):
        find_run.find("ent/proj/abc123", "runs", None)


def test_an_artifact_of_another_type_is_no_record(logged):
    """Anyone may log one of that name."""
    logged(kind="model")

    with pytest.raises(RecordError, match="no record"):
        find_run.find("ent/proj/abc123", "runs", None)


def test_a_damaged_record_is_our_error(logged):
    """Whatever was logged under the name."""
    logged(**{"run.json": "{"})

    with pytest.raises(RecordError, match="can't be read"):
        find_run.find("ent/proj/abc123", "runs", None)


def test_without_or_with_another_key_it_says_so(server):
    """Exit code 79 in both cases, and the key is not in the text."""
    other = dataclasses.replace(KEY, value="z" * 40)

    with pytest.raises(KeyFileError, match="no W&B key"):
        records.fetch(PATH, None)
    with pytest.raises(KeyFileError, match="rejects the key from a test") as caught:
        records.fetch(PATH, other)
    assert other.value not in str(caught.value)


def test_a_server_that_fails_or_is_absent_is_told(server, monkeypatch):
    """By its status, or by what the connection came to."""
    server.store.faults = [wbserver.Fault(path="graphql", status=500)]
    with pytest.raises(RecordError, match="status 500"):
        records.fetch(PATH, KEY)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:1")
    with pytest.raises(RecordError, match="can't be reached"):
        records.fetch(PATH, KEY)
