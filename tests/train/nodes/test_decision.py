"""What follows a round of training on several nodes."""

import pytest

from samerun.core.placement import NodePlacement
from samerun.train.nodes.card import disagreement
from samerun.train.nodes.decision import Decision, Report, decide
from samerun.train.nodes.rendezvous import members, name_all, settle

DONE, STOPPED, LEAVES = Report(code=0), Report(code=75), Report(code=143, leaves=True)
CLOSED = {"what": "RuntimeError: Connection closed by peer [10.0.0.5]", "time": 1.0}
BUG = {"what": "ValueError: a bug", "time": 2.0}
SEEDS = {"a": {"seed": 1}, "b": {"seed": 1}, "c": {"seed": 2}}


def cards(*hosts):
    return {rank: {"host": h, "must": SEEDS[h], "threads": 1} for rank, h in enumerate(hosts)}


def test_job_that_is_through_ends_with_0():
    """Whatever came to a node after its last step: nothing of the training is missing."""
    assert decide([0, 1], {0: DONE, 1: DONE}, 2) == Decision()
    assert decide([0, 1], {0: DONE}, 2) == Decision()
    assert decide([0, 1], {0: DONE, 1: LEAVES}, 1) == Decision()


@pytest.mark.parametrize(
    ("least", "verdict"),
    [
        (1, Decision(left=(0, 2), why="{1} was lost")),
        (2, Decision(left=(0, 2), why="{1} was lost")),
        (3, Decision(code=105, why="{1} was lost")),
    ],
)
def test_lost_node_ends_the_job_or_not_as_its_user_chose(least, verdict):
    """What the others failed with follows from the loss, and counts for nothing."""
    words = {0: Report(code=1, failure=CLOSED), 2: Report(code=137, ordered=True)}

    assert decide([0, 1, 2], words, least) == verdict


def test_nobody_goes_on_without_node_0():
    """It has the checkpoints."""
    assert decide([0, 1], {1: Report(code=1)}, 1) == Decision(code=105, why="{0} was lost")
    leaving = decide([0, 1], {0: Report(code=75, leaves=True), 1: STOPPED}, 1)
    assert (leaving.again, leaving.code) == (False, 75)


def test_node_that_is_asked_to_stop_leaves_with_75():
    """All wrote the checkpoint together; a fixed job ends with it, another one goes on."""
    words = {0: STOPPED, 1: LEAVES}

    assert decide([0, 1], words, 2) == Decision(code=75, why="{1} was asked to stop")
    assert decide([0, 1], words, 1) == Decision(left=(0,), code=75, why="{1} was asked to stop")


def test_stop_before_there_is_a_checkpoint_has_the_signals_code():
    """75 would promise one."""
    words = {0: Report(code=1, failure=CLOSED), 1: LEAVES}

    assert decide([0, 1], words, 2).code == 143


def test_job_that_pauses_goes_on_with_all_that_are_there():
    """The same nodes, and those that came are taken in when they meet."""
    assert decide([0, 1], {0: STOPPED, 1: STOPPED}, 1, grows=True) == Decision(left=(0, 1))
    assert decide([0, 1], {0: STOPPED, 1: STOPPED}, 1) == Decision(
        code=75, failed=0, why="{0} failed first, with exit code 75"
    )


def test_first_failure_is_the_job_s_and_not_what_followed_from_it():
    """A closed connection is no reason, also where its process was faster to say so."""
    words = {0: Report(code=1, failure=CLOSED), 1: Report(code=112, failure=BUG)}
    found = decide([0, 1], words, 1)

    assert (found.code, found.failed, found.failure) == (112, 1, BUG)
    assert not found.again


def test_node_that_was_ended_on_purpose_did_not_fail():
    """Node 0 ends what hangs after a failure elsewhere."""
    words = {0: Report(code=137, ordered=True), 1: Report(code=3)}

    assert decide([0, 1], words, 1).code == 3


def test_names_stand_in_the_reason():
    """Rank and host, or the rank alone of a node that nobody has met."""
    assert (
        name_all("{1}, {2} were lost", cards("a", "b", "c")) == "Node 1 (b), Node 2 (c) were lost"
    )


def test_every_difference_is_told():
    """One line for each node and each thing that must be the same."""
    told = {
        0: {"host": "a", "must": {"seed": 1, "image": "x"}},
        1: {"host": "b", "must": {"seed": 1, "image": "x"}},
        2: {"host": "c", "must": {"seed": 2, "image": "y"}},
    }

    assert disagreement({0: told[0], 1: told[1]}) == ""
    assert disagreement(told).splitlines() == [
        "Node 2 (c) has seed 2, node 0 (a) has 1.",
        "Node 2 (c) has image y, node 0 (a) has x.",
    ]


def test_node_that_comes_late_and_differs_is_refused_alone():
    """At the start it would end the job for all; in the midst of it the others go on."""
    nodes = NodePlacement(count=3, least=1, endpoint="a:1")
    first = settle(cards("a", "b", "c"), nodes, (), 1)
    later = settle(cards("a", "b", "c"), nodes, (0, 1), 1)

    assert "seed" in first["problem"]
    assert not later["problem"]
    assert members(later, 1, nodes).ranks == (0, 1)
    with pytest.raises(Exception, match="Node 2 \\(c\\) has seed 2"):
        members(later, 1, NodePlacement(count=3, least=1, rank=2, endpoint="a:1"))


def test_round_uses_the_threads_that_all_have_and_counts_those_that_are_there():
    """Ranks of torch have no holes, and node 0's is 0."""
    nodes = NodePlacement(count=3, least=2, rank=2, endpoint="host:29400")
    there = {0: {"threads": 8}, 2: {"threads": 4}}
    told = {"cards": there, "port": 5, "missing": [], "problem": "", "refused": {}}
    found = members(told, 1, nodes)
    place = found.place(nodes)

    assert (found.threads, place.count, place.rank, place.endpoint) == (4, 2, 1, "host:5")
