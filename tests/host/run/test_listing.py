"""Lists of runs, what may be removed, and what W&B's server was found to lack."""

import datetime as dt
from collections import Counter

import pytest

from samerun.cli.show import run_table
from samerun.core import parts, record
from samerun.core.errors import UsageError
from samerun.host.run import clean, listing
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
        "digits-1",
        "finished",
        "digits",
        "a" * 12,
        "accuracy",
        "0.5000",
        "5",
        "h",
        "no",
    ]
    assert any(line.split() == ["torn", "damaged"] for line in lines)


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
