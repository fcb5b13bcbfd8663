"""What a run wrote as ``epochs.jsonl`` and result: compared as far as it can be read."""

import dataclasses
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from samerun.cli.show import verdicts
from samerun.host.reproduce import traces, verdict

HEX = st.floats().map(float.hex) | st.sampled_from(["0x1p99999", "-0x1p99999", "nan"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | HEX | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
LINE = {
    "fit": st.integers(0, 1) | JSON,
    "epoch": st.integers(0, 2) | JSON,
    "metrics": st.dictionaries(st.text(max_size=3), HEX | st.none(), max_size=2) | JSON,
    "losses": st.lists(HEX, max_size=2) | JSON,
    "tensors": st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2) | JSON,
}
SHARED = settings(
    deadline=None,
    max_examples=150,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
GOOD = {"fit": 0, "epoch": 0, "metrics": {}, "losses": ["0x1p-1"], "tensors": {}}


def judged(run, one, two):
    """Print the verdict on two files of epochs, and return its outcome."""
    came = verdict.judge(traces.trace_of(run, one), traces.trace_of(run, two), 0.5)
    verdicts.verdict(came, "one", "two")
    return came.outcome


@SHARED
@given(lines=st.lists(st.fixed_dictionaries(LINE), min_size=1, max_size=3))
def test_any_lines_have_a_verdict(run, lines):
    """Damaged epochs are left out, and the others compared."""
    content = "\n".join(map(json.dumps, lines)).encode()

    assert judged(run, content, json.dumps(GOOD).encode())
    assert judged(run, content, content)


@SHARED
@given(content=st.binary(max_size=60))
def test_any_bytes_are_a_trace(run, content):
    """It has the epochs of the record, which are none here."""
    assert traces.trace_of(dataclasses.replace(run, result={}), content).epochs == ()


@SHARED
@given(rows=JSON | st.lists(JSON, max_size=3))
def test_any_result_has_a_verdict(run, rows):
    """What a run reported as its epochs may be anything."""
    assert judged(dataclasses.replace(run, result={"epochs": rows}), b"", b"")


@pytest.mark.parametrize(
    "change", [{"fit": float("inf")}, {"losses": ["0x1p99999"]}, {"losses": "12"}]
)
def test_a_line_that_is_no_epoch_ends_the_trace(run, change):
    """Numbers without a value, and a text in the place of a list."""
    content = "\n".join(json.dumps(one) for one in (GOOD, GOOD | {"epoch": 1} | change))

    assert [epoch.epoch for epoch in traces.trace_of(run, content.encode()).epochs] == [0]


def test_an_integer_without_a_float_is_no_metric(run):
    """JSON has integers of any length."""
    damaged = dataclasses.replace(run, result={"epochs": [{"loss": 10**400}, 5]})

    assert [epoch.metrics for epoch in traces.trace_of(damaged, b"").epochs] == [{"loss": None}, {}]
