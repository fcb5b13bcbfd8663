"""A resumed training goes on in its W&B run: no row is lost, none is there twice."""

import json
import signal
import sys
from pathlib import Path

import pytest
from resuming import EVERY_EPOCH, EVERY_STEP, fork, log, part

from samerun.train.hooks import wandb_content, wandb_log

NOT_REPEATABLE = {"_timestamp", "_runtime", "_step", "train_samples_per_sec"}


def rows(folder, *columns):
    """
    Return the rows of all segments in *folder*, in the order in which a sync delivers them.

    Those that have a loss, or one of *columns*.
    """
    wanted = set(columns) or {"train_loss", "valid_loss"}
    found = []
    for path in wandb_log.find([str(folder / "wandb" / "x")]):
        for entry in wandb_log.records(path.read_bytes()):
            if entry.WhichOneof("record_type") == "history":
                items = {".".join(i.nested_key) or i.key: i.value_json for i in entry.history.item}
                row = {k: json.loads(v) for k, v in items.items() if k not in NOT_REPEATABLE}
                found.append(row)
    return [row for row in found if wanted & set(row)]


def journaled(folder):
    """Return the training steps in the journal of all starts."""
    (journal,) = (folder / ".samerun").glob("rows-*.jsonl")
    lines = [json.loads(line) for line in journal.read_text().splitlines() if line]
    parts = [values for line in lines for _, values in line.get("parts", ())]
    return [values["train_step"] for values in parts if "train_step" in values]


def ids(folder):
    """Return the W&B runs that the segments in *folder* belong to."""
    return {path.stem for path in wandb_log.find([str(folder / "wandb" / "x")])}


def by_step(found):
    """Return each value under its step (or epoch) and name: metrics may have a row of their own."""
    values = {}
    for row in found:
        place = row.pop("train_step", None), row.pop("epoch")
        values |= {(place[1], name): value for name, value in row.items()}
    return values


def test_killed_training_goes_on_in_its_run(tmp_path):
    """The same id in every segment; every step once, with the values of an undisturbed run."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    jobs = [(whole, ["logged"]), (killed, ["logged", "--kill", 6])]
    jobs += [(killed, ["logged", "--kill", 4]), (killed, ["logged"])]
    codes = fork(jobs, EVERY_EPOCH)

    assert codes == [0, -signal.SIGKILL, -signal.SIGKILL, 0], log(killed)
    steps = [row["train_step"] for row in rows(killed) if "train_step" in row]
    assert len(ids(killed)) == 1
    assert steps == list(range(12))
    assert by_step(rows(killed)) == by_step(rows(whole))


def artifacts(folder):
    """Return the digests of what the only W&B run in *folder* has logged, by name."""
    logs = [str(path.parent) for path in wandb_log.find([str(folder / "wandb" / "x")])]
    (content,) = wandb_content.contents(folder, logs)
    found = [(a.name.replace(content.id, "ID"), a.digest) for a in content.artifacts()]
    assert len(dict(found)) == len(found)
    return dict(found)


def test_best_model_that_was_saved_before_a_kill_is_shown_and_logged(tmp_path):
    """Tables, charts and the model are of the epoch that the fit loads at its end."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    jobs = [(whole, ["best"]), (killed, ["best", "--kill", 10]), (killed, ["best"])]
    codes = fork(jobs, EVERY_EPOCH)

    assert codes == [0, -signal.SIGKILL, 0], log(killed)
    assert log(whole).count("Better model found") == 1
    expected = artifacts(whole)
    assert {"model", "run-ID-Prediction_Samples", "run-ID-roc_curve_table"} <= set(expected)
    assert artifacts(killed) == expected


def test_signal_in_the_last_validation_loses_nothing_of_the_end(tmp_path):
    """Tables, charts and the model are logged before the stop: a later start can't show them."""
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    stop = ["best", "--signal", 12, "--validating"]
    codes = fork([(whole, ["best"]), (stopped, stop), (stopped, ["best"])], EVERY_EPOCH)

    assert codes == [0, 75, 0], log(stopped)
    assert part(stopped, "preempted")["checkpoint"].startswith("000-end")
    assert artifacts(stopped) == artifacts(whole)


def test_predictions_fetched_for_a_subclass_are_the_same_after_a_kill(tmp_path):
    """The fit has a callback more than its learner had before, which is no change of the user's."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    jobs = [(whole, ["fetching"]), (killed, ["fetching", "--kill", 6]), (killed, ["fetching"])]
    codes = fork(jobs, EVERY_EPOCH)

    assert codes == [0, -signal.SIGKILL, 0], log(killed)
    first = [row["first"] for row in rows(whole, "first")]
    assert len(first) == 3
    assert [row["first"] for row in rows(killed, "first")] == first


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The rows of an undisturbed training."""
    folder = tmp_path_factory.mktemp("stops") / "whole"
    assert fork([(folder, ["logged"])], EVERY_STEP) == [0], log(folder)
    return rows(folder)


@pytest.mark.parametrize("step", [3, 4, 6, 7, 8])
def test_stopped_training_goes_on_in_its_run(tmp_path, whole, step):
    """A signal anywhere in an epoch, also at its last batch, whose row gets the metrics later."""
    stopped = tmp_path / "stopped"
    jobs = [(stopped, ["logged", "--signal", step]), (stopped, ["logged"])]

    assert fork(jobs, EVERY_STEP) == [75, 0], log(stopped)
    assert len(ids(stopped)) == 1
    steps = [row["train_step"] for row in rows(stopped) if "train_step" in row]
    assert steps == list(range(12))
    assert by_step(rows(stopped)) == by_step(map(dict, whole))
    # A row of the stop would be resent as lost, beside the one that has the metrics.
    assert sorted(journaled(stopped)) == list(range(12))


@pytest.mark.parametrize("policy", [EVERY_STEP, EVERY_EPOCH])
def test_training_that_failed_in_a_validation_goes_on_in_its_run(tmp_path, whole, policy):
    """The last step's row is there already; the metrics of its epoch follow in a row without it."""
    failed = tmp_path / "failed"
    jobs = [(failed, ["logged", "--fail", 4, "--validating"]), (failed, ["logged"])]

    assert fork(jobs, policy) == [1, 0], log(failed)
    steps = [row["train_step"] for row in rows(failed) if "train_step" in row]
    assert steps == list(range(12))
    assert by_step(rows(failed)) == by_step(map(dict, whole))


@pytest.fixture
def server(tmp_path):
    """The stand-in for W&B's service, on loopback."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "standin"))
    import wbserver

    folder = tmp_path / "server"
    with wbserver.make_server(folder, entity="ent", api_keys=["0" * 40]) as running:
        yield running


def test_killed_online_training_goes_on_in_its_run(tmp_path, server, monkeypatch):
    """What the server has is not sent again, what it never got is."""
    monkeypatch.setenv("WANDB_BASE_URL", server.url)
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    online = tmp_path / "online"
    jobs = [(online, ["logged", "--kill", 6]), (online, ["logged", "--kill", 4])]
    codes = fork([*jobs, (online, ["logged"])], EVERY_EPOCH, WANDB_MODE="online")

    assert codes == [-signal.SIGKILL, -signal.SIGKILL, 0], log(online)
    (run,) = server.store.runs.values()
    steps = [row["train_step"] for row in run.history() if "train_loss" in row]
    assert steps == list(range(12))
