"""The failure that caused the others, whichever was seen first."""

from samerun.core import first_failure


def failure(rank, kind, what, time):
    return {"rank": rank, "kind": kind, "what": what, "time": time}


ECHO = failure(0, "communication failed", "RuntimeError: Connection closed by peer", 1.0)
FREED = failure(0, "communication failed", "CommunicationFailed: Rank 0 waited for another", 1.0)
ABORT = failure(0, "killed", "signal 6", 1.0)
KILL = failure(1, "killed", "signal 9", 0.0)
RAISED = failure(1, "exception", "ValueError: a bug", 2.0)
MEMORY = failure(1, "out of memory", "DistBackendError: NCCL error, out of memory", 2.0)


def test_what_follows_from_another_is_not_the_cause():
    for cause in (KILL, RAISED, MEMORY):
        for echo in (ECHO, FREED, ABORT):
            assert first_failure.first([echo, cause]) is cause
            assert first_failure.first([cause, echo]) is cause


def test_first_of_several_causes_is_the_cause():
    later = failure(3, "exception", "KeyError: 'x'", 3.0)
    assert first_failure.first([later, RAISED]) is RAISED
    assert first_failure.first([later, RAISED, KILL]) is KILL


def test_only_failure_is_the_cause_whatever_it_is():
    assert first_failure.first([ABORT]) is ABORT
    assert first_failure.first([]) is None


def test_damaged_reports_are_last():
    odd = {"kind": ["x"], "what": 5, "time": "soon"}
    assert first_failure.first([odd, RAISED]) is RAISED
