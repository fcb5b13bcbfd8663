"""The exit code of a job is that of the process that failed first."""

import time

import pytest
from sample import sample
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from samerun.core import parts, record
from samerun.train import launcher
from samerun.train.report import failures

ECHO = RuntimeError("Connection closed by peer [127.0.0.1]:1")


def ended(**codes):
    """Return torch's error; the ranks are in the order in which it saw their ends."""
    found = {
        int(rank[1:]): ProcessFailure(int(rank[1:]), 1, code, error_file="")
        for rank, code in codes.items()
    }
    return ChildFailedError("worker", found)


@pytest.fixture
def run(folder, monkeypatch):
    monkeypatch.setenv("SAMERUN_RECORD", str(folder / "run.json"))
    monkeypatch.setenv("WORLD_SIZE", "3")
    record.write(folder, sample())
    return folder


def raised(monkeypatch, rank, error, code):
    monkeypatch.setenv("RANK", str(rank))
    failures.report(error, code, failures._found(error))


@pytest.mark.parametrize(
    ("codes", "code"),
    [
        # What torch's own SIGTERM does to the others is no failure.
        ({"r1": 7, "r0": -15}, 7),
        ({"r1": -9, "r0": -15}, 137),
        # Seen at once: the rank that was killed, and one that lost its connection.
        ({"r0": 114, "r1": -9}, 137),
        ({"r0": -6, "r1": 7}, 7),
        ({"r1": -15}, 143),
        ({"r0": 75, "r1": -15}, 75),
    ],
)
def test_first_end_decides(run, codes, code, monkeypatch):
    if codes.get("r0") == 114:
        raised(monkeypatch, 0, ECHO, 114)
    assert launcher._report_first(ended(**codes), is_only_node=True) == code


def test_report_of_a_rank_that_has_not_ended_yet_decides(run, monkeypatch, capsys):
    """It failed, and closes its W&B run; the other lost its connection and ended before."""
    raised(monkeypatch, 1, ValueError("a bug"), 1)
    raised(monkeypatch, 0, ECHO, 114)
    code = launcher._report_first(ended(r0=114, r1=-15), is_only_node=True)

    assert code == 1
    assert "rank 1 failed first: exit code 1" in capsys.readouterr().err
    assert parts.cause_of_failure(run)["what"] == "ValueError: a bug"


def test_rank_that_the_launcher_had_to_kill_is_not_the_first(run, monkeypatch):
    """It hung in a collective until the launcher lost its patience."""
    error = ended(r1=1, r0=-9)
    error.failures[0].timestamp = int(time.time()) + 40
    raised(monkeypatch, 1, ValueError("a bug"), 1)

    assert launcher._report_first(error, is_only_node=True) == 1
    assert parts.cause_of_failure(run)["rank"] == 1


def test_end_without_an_exception_is_in_the_record_too(run):
    launcher._report_first(ended(r2=3), is_only_node=True)
    found = parts.cause_of_failure(run)
    assert (found["kind"], found["rank"], found["what"]) == ("exit", 2, "exit code 3")


def test_bus_error_has_the_remedy_of_shared_memory(run):
    assert launcher._report_first(ended(r0=-7), is_only_node=True) == 135
    assert "--shm-size" in parts.cause_of_failure(run)["remedy"]


def test_report_with_an_impossible_code_decides_nothing(run):
    parts.report(run, "failure-5", {"rank": 5, "kind": "x", "time": 0.5, "code": 10**9})
    assert launcher._report_first(ended(r0=7), is_only_node=True) == 7


def test_without_a_record_the_first_end_decides(monkeypatch):
    monkeypatch.delenv("SAMERUN_RECORD", raising=False)
    assert launcher._report_first(ended(r0=114, r1=-9), is_only_node=True) == 137
