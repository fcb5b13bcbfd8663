"""``sync.json``: any content but a whole report means that the server may lack something."""

import dataclasses
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from samerun.core import contract
from samerun.core.record import WandbRun
from samerun.host.tracking import synced

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["ended", "runs", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)
VALUES = JSON.map(json.dumps).map(str.encode)


@pytest.fixture
def online(run):
    return dataclasses.replace(run, wandb=(WandbRun(id="a", mode="online", dir="wandb/run-a"),))


@settings(
    deadline=None,
    max_examples=150,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(content=VALUES | st.binary(max_size=40))
def test_any_content_keeps_the_folder(online, tmp_path, content):
    """`invoke clean` removes only what a whole report of this end calls complete."""
    (tmp_path / contract.SYNC).write_bytes(content)

    assert synced.state(tmp_path, online) == "unverified"
    assert not synced.is_safe_to_remove(tmp_path, online)


@pytest.mark.parametrize("complete", [1, "yes", [True], None])
def test_only_true_is_complete(online, tmp_path, complete):
    """Other values that count as true in Python are damage."""
    report = {"complete": complete, "ended": online.outcome.ended, "runs": []}
    (tmp_path / contract.SYNC).write_text(json.dumps(report))

    assert not synced.is_safe_to_remove(tmp_path, online)


def test_a_report_without_end_is_none(online, tmp_path):
    """It is read up to a bound, and so is one without a bottom."""
    with (tmp_path / contract.SYNC).open("wb") as file:
        file.truncate(20 * 2**30)
    assert synced.read(tmp_path) == {}

    (tmp_path / contract.SYNC).write_text("[" * 100_000)
    assert synced.read(tmp_path) == {}


def test_a_whole_report_is_believed(online, tmp_path):
    """As `invoke sync` writes it."""
    synced.note(tmp_path, online, [], complete=True)

    assert synced.state(tmp_path, online) == "yes"
