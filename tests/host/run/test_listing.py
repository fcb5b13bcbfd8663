"""Lists of runs, what may be removed, and what W&B's server was found to lack."""

import dataclasses
import datetime as dt
from collections import Counter

import pytest

from samerun.cli.show import run_table
from samerun.core import parts, record
from samerun.core.errors import UsageError
from samerun.host.run import clean, listing, progress, summary
from samerun.host.tracking import delivery, synced
from samerun.host.tracking.delivery import Delivered, Logged


@pytest.fixture
def folder(run, tmp_path):
    """The folder of an ended run with an offline W&B run, under runs/."""
    folder = tmp_path / "runs" / "digits-1"
    folder.mkdir(parents=True)
    run = run.with_outcome(state="finished", exit_code=0, ended="2026-01-01T00:00:01.000+00:00")
    parts.report(folder, "wandb-1", {"id": "1", "mode": "offline", "dir": "d", "url": None})
    parts.report(folder, "result", {"metrics": {"train_loss": 1.0, "accuracy": 0.5}})
    record.write(folder, parts.assemble(folder, run))
    return folder


def test_table_has_a_line_per_run(folder, monkeypatch):
    """Name, state, recipe, image, metric, age, and whether W&B has it; no engine is needed."""
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent.sock")
    (folder.parent / "torn").mkdir()
    (folder.parent / "torn" / "run.json").write_text("{")
    now = dt.datetime(2026, 1, 1, 5, tzinfo=dt.UTC)
    lines = run_table.table(listing.list_runs(folder.parent), now).splitlines()

    words = next(line for line in lines if "digits-1" in line).split()
    assert words == [
        *("digits-1", "finished", "digits", "--epochs", "1", "a" * 12, "0.5000", "5", "h", "no")
    ]
    assert lines[0].split() == ["name", "state", "recipe", "image", "accuracy", "age", "W&B"]
    assert any(line.split() == ["torn", "damaged"] for line in lines)


def listed(name, **changes):
    """Return a run as it is listed."""
    given = {"state": "finished", "target": "digits", "digest": "", "created": "", "synced": ""}
    metrics = changes.get("metrics", {})
    given |= {"folder": "", "metric": listing.main_metric(metrics), "name": name, **changes}
    return listing.Listed(**given)


def test_all_runs_show_the_metric_that_most_have():
    """Named once; a run without it shows its own, with the name."""
    runs = [
        listed("a", metrics={"train_loss": 1.0, "valid_loss": 0.5, "accuracy": 0.9}),
        listed("b", metrics={"train_loss": 1.0, "valid_loss": 0.4}),
        listed("c", metrics={"train_loss": 1.0, "valid_loss": 0.3}),
        listed("d", metrics={"dice": 0.2}),
        listed("e"),
    ]
    lines = run_table.table(runs).splitlines()

    assert "valid_loss" in lines[0]
    assert [line.split()[-1] for line in lines[1:4]] == ["0.5000", "0.4000", "0.3000"]
    assert lines[4].endswith("dice 0.2000")


def test_flags_and_progress_stand_in_the_table():
    """Long flags are cut, and a name with a line break stays on its line."""
    lines = run_table.table([
        listed("a", flags=("--lr", "0.1"), state="running", progress="2/5", left_s=125.0),
        listed("b\nc", flags=("x" * 99,), state="running", progress="0/5"),
    ]).splitlines()  # fmt: skip

    assert "running 2/5, 2 min left" in lines[1]
    assert "digits --lr 0.1" in lines[1]
    assert "running 0/5 " in lines[2]
    assert "x" * 39 + "…" in lines[2]
    assert len(lines) == 3


def test_progress_is_what_the_container_reported(folder):
    """With the time left by the last epoch; what is no progress is none."""
    report = {"fit": 1, "epochs": 5, "done": 2, "epoch_s": 10.0, "time": 100.0}
    parts.report(folder, "progress", {**report, "metrics": {"valid_loss": 0.5, "x": None}})

    known = progress.read(folder)

    assert (known.shown(), known.metrics) == ("fit 2: 2/5", {"valid_loss": 0.5})
    assert [known.left(now) for now in (100.0, 104.0, 999.0)] == [30.0, 26.0, 0.0]
    for wrong in ({"epochs": 0}, {"epochs": "5"}, {"done": -1}, {"epochs": 10**12}, {"fit": True}):
        parts.report(folder, "progress", {**report, **wrong})
        assert progress.read(folder) is None
    parts.report(folder, "progress", {"fit": 0, "epochs": 5, "time": 1.0})
    assert progress.read(folder).left() is None


def test_a_preempted_run_tells_the_epochs_that_it_has_done(folder):
    """Its result is written only at the end of a fit."""
    parts.report(folder, "progress", {"epochs": 5, "done": 2, "metrics": {"valid_loss": 0.5}})
    run = record.read(folder)
    preempted = dataclasses.replace(run, result={}).with_outcome(state="preempted", exit_code=75)

    assert summary.result(preempted, folder) == "valid_loss 0.5000 (after 2/5 epochs)"
    assert summary.result(run, folder) == "train_loss 1.0000, accuracy 0.5000"
    assert summary.result(preempted, folder.parent) == "none recorded"


def test_synced_is_what_the_server_was_found_to_have(folder):
    """Noted for this very end of the run: one more start, and it is not known again."""
    run = record.read(folder)
    assert synced.state(folder, run) == "no"
    synced.note(folder, run, [], complete=True)
    assert synced.state(folder, run) == "yes"
    assert synced.state(folder, run.with_outcome(ended="later")) == "no"
    synced.note(folder, run, [], complete=False)
    assert not synced.is_safe_to_remove(folder, run)


@pytest.mark.parametrize("text", ["", "7", "d", "7y", "-1d", "1.5h"])
def test_age_that_is_none_is_refused(text):
    """With an example."""
    with pytest.raises(UsageError, match="age"):
        clean.age(text)


def test_age_is_read_in_minutes_to_weeks():
    """As other tools write it."""
    assert [clean.age(t).total_seconds() for t in ("30m", "12h", "7d", "2w")] == [
        1800,
        43200,
        604800,
        1209600,
    ]


def logged(*rows, artifacts=()):
    """Return what is on disk; each row by the times at which it was logged."""
    times = tuple((frozenset(row), 1) for row in rows)
    return Logged(
        id="1", entity=None, project="p", dirs=("d",), rows=times, artifacts=frozenset(artifacts)
    )


def difference(here, times, artifacts=()):
    there = Delivered(times=Counter(times), artifacts=tuple(artifacts))
    found = delivery.compare(here, there)
    return found.missing_rows, found.doubled_rows, found.missing_artifacts


ROWS = ([100], [110], [120])


def test_rows_are_counted_by_their_time():
    """Missing, there, and there twice; also where the server counts steps on."""
    assert difference(logged(*ROWS), [100, 110, 120]) == (0, 0, ())
    assert difference(logged(*ROWS), [100]) == (2, 0, ())
    assert difference(logged(*ROWS), [100, 110, 120, 100, 110]) == (0, 2, ())
    assert difference(logged(*ROWS), []) == (3, 0, ())


def test_of_a_row_that_a_later_start_logged_anew_one_is_there():
    """Killed after the third row, resumed from the second: any of the two, but not both."""
    here = logged([100], [110, 210], [120, 220], [230])

    assert difference(here, [100, 210, 220, 230]) == (0, 0, ())
    assert difference(here, [100, 110, 220, 230]) == (0, 0, ())
    assert difference(here, [100, 110, 210]) == (2, 1, ())


def test_versions_of_an_artifact_are_counted():
    """A digest may change on the server; a version may not be missing."""
    here = logged([100], artifacts=[("t", "x"), ("t", "y"), ("m", "z")])

    assert difference(here, [100], [("t", "1"), ("t", "2"), ("m", "z")]) == (0, 0, ())
    assert difference(here, [100], [("t", "1"), ("t", "1"), ("m", "z")]) == (0, 0, ("t",))
