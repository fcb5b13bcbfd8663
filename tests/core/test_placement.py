"""One of several nodes, as asked for on the command line."""

import dataclasses

import pytest

from samerun.core import placement
from samerun.core.errors import UsageError
from samerun.core.placement import NodePlacement
from samerun.host.launch import request

FIRST = NodePlacement(count=2, rank=0, endpoint="10.0.0.4:29400")


def test_place_becomes_the_entrys_options():
    """A run on one machine has none of them."""
    assert NodePlacement().argv() == []
    assert FIRST.argv() == [
        *("--nodes", "2", "--node-rank", "0"),
        *("--rdzv", "10.0.0.4:29400", "--rdzv-timeout", "300"),
    ]


@pytest.mark.parametrize(
    ("text", "numbers"), [("1", (None, 1)), ("2", (None, 2)), ("1:2", (1, 2)), ("2:2", (2, 2))]
)
def test_number_of_nodes_is_read_as_torchrun_has_it(text, numbers):
    """One number, or the least and all."""
    assert placement.parse(text) == numbers


@pytest.mark.parametrize("text", ["0", "two", "3:2", "0:2", ":2", "1:", "1:2:3", "-1"])
def test_number_of_nodes_that_is_none_is_refused(text):
    """With both forms."""
    with pytest.raises(UsageError, match="1:2"):
        placement.parse(text)


def test_job_that_may_shrink_says_so_to_the_entry():
    """And the line that starts it again has both numbers."""
    argv = dataclasses.replace(FIRST, least=1).argv()

    assert argv[argv.index("--least-nodes") + 1] == "1"
    assert placement.shown(1, 2) == "1:2"
    assert placement.shown(None, 2) == placement.shown(2, 2) == "2"


def test_node_0_has_the_jobs_name():
    """The others add their number, so that all of them may run on one machine."""
    assert FIRST.named("job") == "job"
    assert dataclasses.replace(FIRST, rank=1).named("job") == "job-node1"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"rank": 2}, "--node-rank 2 is not one of 2"),
        ({"rank": -1}, "--node-rank -1"),
        ({"endpoint": ""}, "--nodes 2 requires --rdzv HOST:PORT"),
        ({"endpoint": "10.0.0.4"}, "--rdzv: '10.0.0.4'"),
        ({"endpoint": "10.0.0.4:99999"}, "--rdzv: '10.0.0.4:99999'"),
        ({"endpoint": "-x:1"}, "--rdzv: '-x:1'"),
        ({"timeout_s": 0}, "--rdzv-timeout 0"),
        ({"count": 1}, "--rdzv was given without --nodes"),
    ],
)
def test_impossible_places_are_refused(changes, told):
    """With the value and the rule, before anything is started."""
    with pytest.raises(UsageError, match="--") as error:
        placement.check_placement(dataclasses.replace(FIRST, **changes))
    assert told in str(error.value)


def test_nodes_need_a_network():
    """`--no-network` and several nodes exclude each other."""
    with pytest.raises(UsageError, match="nodes need a network"):
        request.check_request(request.Request(nodes="2", rdzv="10.0.0.4:29400", no_network=True))
