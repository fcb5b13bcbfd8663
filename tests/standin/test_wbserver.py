"""The W&B stand-in: what it keeps, what it shows, and how it fails when it is told to."""

import threading
import time

import pytest
import requests
import wbserver
from wbserver import Fault, filters
from wbserver.records import Run

KEY = "k" * 40
TIMEOUT_S = 10


@pytest.fixture
def server(tmp_path):
    """A stand-in that takes our key and no other."""
    with wbserver.make_server(tmp_path, entity="ent", api_keys=[KEY]) as server:
        yield server


def post(server, path, content):
    return requests.post(f"{server.url}{path}", json=content, auth=("api", KEY), timeout=TIMEOUT_S)


def ask(server, query, **variables):
    return post(server, "/graphql", {"query": query, "variables": variables})


def stream(server, offset, *rows):
    """Send rows of history as wandb does; return the answer."""
    content = [f'{{"_step": {step}, "loss": {loss}}}' for step, loss in rows]
    history = {"offset": offset, "content": content}
    return post(server, "/files/ent/p/r/file_stream", {"files": {"wandb-history.jsonl": history}})


@pytest.fixture
def run(server):
    """A run without rows."""
    ask(server, 'mutation { upsertBucket(input: {name: "r", modelName: "p"}) { inserted } }')
    return server.store.runs["ent/p/r"]


def state(server):
    return requests.get(f"{server.url}/_admin/state", timeout=TIMEOUT_S).json()


def test_a_row_that_is_sent_twice_is_seen_twice(server, run):
    """At its offset the server shows it once, as W&B does; after the others, twice."""
    stream(server, 0, (0, 1.0), (1, 0.5))
    stream(server, 1, (1, 0.5))
    stream(server, 2, (1, 0.5))

    shown, received = run.history_by_step(), run.received_by_step()
    assert {step: len(rows) for step, rows in shown.items()} == {0: 1, 1: 2}
    assert received[1] == [{"_step": 1, "loss": 0.5}] * 3
    assert len(state(server)["runs"]["ent/p/r"]["received_by_step"]["1"]) == 3


def log_artifact(server, digest="d1"):
    """Log an artifact of one file as wandb does; return its id."""
    names = {"entityName": "ent", "projectName": "p", "runName": "r"}
    made = {"artifactCollectionName": "m", "artifactTypeName": "model", "digest": digest}
    created = ask(
        server,
        "mutation($i: CreateArtifactInput!) { createArtifact(input: $i) { artifact { id } } }",
        i=names | made | {"aliases": [{"alias": "best"}]},
    ).json()
    key = created["data"]["createArtifact"]["artifact"]["id"]
    files = f'artifactFiles: [{{artifactID: "{key}", name: "a.txt"}}]'
    ask(
        server,
        f"mutation {{ createArtifactFiles(input: {{{files}}}) {{ files {{ totalCount }} }} }}",
    )
    requests.put(f"{server.url}/storage/artifact/{key}/a.txt", b"hello", timeout=TIMEOUT_S)
    manifest = b'{"contents": {"a.txt": {"size": 5}}}'
    requests.put(f"{server.url}/storage/manifest/{key}", manifest, timeout=TIMEOUT_S)
    ask(
        server,
        f'mutation {{ commitArtifact(input: {{artifactID: "{key}"}}) {{ artifact {{ id }} }} }}',
    )
    return key


def test_an_artifact_is_found_by_run_and_by_alias(server, run):
    """With its manifest and its content, also in the state over HTTP."""
    key = log_artifact(server)
    newer = log_artifact(server, "d2")
    store = server.store

    assert store.artifact("ent/p/m:v0").id == key
    assert store.artifact("ent/p/m:best").id == store.artifact("ent/p/m").id == newer
    assert {name: a.id for name, a in store.logged(run).items()} == {"m:v0": key, "m:v1": newer}
    assert store.read(store.artifact("ent/p/m:v0"), "a.txt") == b"hello"
    shown = state(server)["artifacts"][newer]
    assert (shown["name"], sorted(shown["aliases"])) == ("m:v1", ["best", "latest"])
    assert shown["manifest"]["contents"]["a.txt"]["size"] == shown["blobs"]["a.txt"]["size"] == 5


def test_the_state_outlives_the_process(server, run, tmp_path):
    """Rows, artifacts and configuration are read back from the folder."""
    stream(server, 0, (0, 1.0))
    log_artifact(server)

    again = wbserver.Store(tmp_path, "ent")

    assert again.runs["ent/p/r"] == run
    assert again.artifacts == server.store.artifacts
    assert again.collections == server.store.collections


def test_a_field_that_is_not_known_is_refused_by_name(server):
    """A new wandb that asks for more is noticed at once."""
    answer = ask(server, "query New { viewer { entity shoeSize } }")

    assert answer.status_code == 400
    assert "Cannot query field 'shoeSize' on type 'User'." in answer.text
    assert next(iter(server.store.unknown)).startswith("New: ")


def test_an_input_may_have_fields_that_are_not_known(server):
    """They are let pass: the answer does not depend on them."""
    asked = 'mutation { upsertBucket(input: {name: "r", shoeSize: 43}) { bucket { name } } }'

    assert ask(server, asked).json()["data"]["upsertBucket"]["bucket"]["name"] == "r"


def test_a_wrong_key_is_refused(server):
    """Where a key is asked for at all: addresses of storage are like presigned ones."""
    asked = {"query": "{ viewer { entity } }"}
    other = requests.post(f"{server.url}/graphql", json=asked, auth=("api", "x"), timeout=TIMEOUT_S)

    assert other.status_code == 401
    assert requests.get(f"{server.url}/storage/none", timeout=TIMEOUT_S).status_code == 404


@pytest.mark.parametrize("status", [401, 429, 500])
def test_a_fault_holds_for_a_number_of_requests(server, run, status):
    """Those that match; what they ask is not done."""
    fault = Fault(path="file_stream", status=status, times=2, headers={"Retry-After": "1"})
    server.store.faults = [fault]

    answers = [stream(server, 0, (0, 1.0)) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [status, status, 200]
    assert answers[0].headers["Retry-After"] == "1"
    assert fault.hits == 2
    assert len(run.received) == 1


def test_a_fault_holds_for_a_time_from_its_first_request(server):
    """However many there are; others, and the time before, do not count."""
    faults = [{"path": "graphql", "op": "Mine", "status": 500, "seconds": 60}]
    post(server, "/_admin/faults", faults)
    (fault,) = server.store.faults
    mine, other = "query Mine { viewer { entity } }", "query Other { viewer { entity } }"

    assert ask(server, other).status_code == 200
    assert fault.ends is None
    assert [ask(server, query).status_code for query in (mine, other, mine)] == [500, 200, 500]
    assert 0 < fault.left <= 60
    fault.ends = time.monotonic()
    assert ask(server, mine).status_code == 200


def test_connections_are_refused_for_a_time(server, run):
    """Of all areas, by the kernel: nothing listens. Then the server is there as before."""
    server.store.faults = [Fault(path="file_stream", refuse=True, seconds=60)]
    with pytest.raises(requests.ConnectionError):
        stream(server, 0, (0, 1.0))
    time.sleep(0.2)  # It listens for another moment, and answers nothing.

    with pytest.raises(requests.ConnectionError, match="refused"):
        ask(server, "{ viewer { entity } }")
    server.store.faults[0].ends = time.monotonic()
    time.sleep(0.2)

    assert stream(server, 0, (0, 1.0)).status_code == 200
    assert len(run.received) == 1


def test_a_server_that_hangs_keeps_the_connection_until_the_end(server):
    """Neither an answer nor an end, until the faults are changed."""
    server.store.faults = [Fault(path="graphql", hang=True)]
    asked = {"query": "{ viewer { entity } }"}
    with pytest.raises(requests.Timeout):
        requests.post(f"{server.url}/graphql", json=asked, auth=("api", KEY), timeout=0.3)
    server.store.faults = [Fault(path="graphql", hang=True)]
    threading.Timer(0.3, server.store.faults.clear).start()

    with pytest.raises(requests.ConnectionError):
        ask(server, "{ viewer { entity } }")
    assert ask(server, "{ viewer { entity } }").status_code == 200


@pytest.mark.parametrize(
    "wrong", [{"path": "graphq"}, {"refuse": True}, {"state": 500}], ids=lambda w: next(iter(w))
)
def test_a_fault_that_could_not_happen_is_refused(server, wrong):
    """Else a test would pass because nothing went wrong."""
    answer = post(server, "/_admin/faults", [wrong])

    assert answer.status_code == 400
    assert next(iter(wrong)) in answer.text


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"tags": "a"}, True),
        ({"tags": {"$in": ["b", "c"]}}, False),
        ({"config.lr": 0.1, "jobType": "train"}, True),
        ({"config.lr.value": {"$gt": 0.1}}, False),
        ({"config.none": {"$gt": 0.1}}, False),
        ({"summary_metrics.loss": {"$lte": 2}}, True),
        ({"$or": [{"state": "failed"}, {"display_name": {"$ne": "other"}}]}, True),
        ({"$and": [{"group": "g"}, {"state": {"$in": ["failed"]}}]}, False),
    ],
)
def test_runs_are_filtered_as_the_api_does(wanted, found):
    """By tags, configuration, summary and what a run is called."""
    run = Run(entity="e", project="p", name="r", display_name="first", tags=["a"], group="g")
    run.job_type, run.config, run.summary = "train", {"lr": {"value": 0.1}}, {"loss": 2}

    assert filters.matches(run, wanted) is found
