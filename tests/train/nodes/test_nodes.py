"""Several nodes: who meets and who is refused; tests/docker has what they train together."""

import json
import os
import socket

import meeting
from meeting import start

from samerun.core.placement import NodePlacement
from samerun.train.nodes import card, interface


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ended(*processes):
    return [process.ended() for process in processes]


def test_nodes_that_agree_know_each_other():
    """Every node gets every card, in the order of the ranks."""
    port = free_port()
    told = ended(*(start(rank, 2, port, 1, 30) for rank in (1, 0)))

    assert [(json.loads(out), code) for out, code in told] == [(["host0", "host1"], 0)] * 2


def test_nodes_that_differ_are_refused_on_every_node():
    """Before anything trains; the message says who differs in what."""
    port = free_port()
    told = ended(*(start(rank, 2, port, seed, 30) for rank, seed in ((0, 1), (1, 2))))

    assert {code for _, code in told} == {98}
    for out, _ in told:
        assert "Node 1 (host1) has seed 2, node 0 (host0) has 1." in out


def test_node_that_does_not_come_is_named_to_all_that_wait():
    """After a bounded wait; nobody is left behind in a rendezvous without end."""
    port = free_port()
    told = ended(*(start(rank, 3, port, 1, 3) for rank in (0, 1)))

    assert {code for _, code in told} == {99}
    assert all("Node 2 of 3 did not join within 3 s" in out for out, _ in told)


def test_absent_node_0_ends_the_wait():
    """The message names the address, the time, and what to look at."""
    ((out, code),) = ended(start(1, 2, free_port(), 1, 2))

    assert code == 99
    assert "did not respond" in out
    assert "firewall" in out


def test_another_service_at_the_address_is_told():
    """It takes the connection and says nothing: torch alone would wait for ever."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        ((out, code),) = ended(start(1, 2, server.getsockname()[1], 1, 1, silence_s=1))

    assert code == 99
    assert "another program listens there" in out


def test_two_nodes_of_one_rank_are_told_apart():
    """The second one is refused; the first goes on to wait for the right one."""
    port = free_port()
    same = [start(1, 3, port, 1, 60) for _ in range(2)]
    first = start(0, 3, port, 1, 60)
    refused = meeting.first_to_speak(same)
    told, code = refused.ended()
    same.remove(refused)
    codes = [code for _, code in ended(*same, first, start(2, 3, port, 1, 60))]

    assert code == 99
    assert "There already is a node 1: host1." in told
    assert codes == [0, 0, 0]


def test_nodes_compare_the_variables_on_which_results_depend(monkeypatch):
    """NCCL hangs where they differ; the number of threads is agreed on later."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv("NCCL_ALGO", raising=False)
    cards = {0: one_card()}
    monkeypatch.setenv("NCCL_ALGO", "Ring")
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    cards[1] = one_card()

    lines = card.disagreement(cards).splitlines()

    assert len(lines) == 1
    assert "has variables" in lines[0]
    assert "NCCL_ALGO=Ring" in lines[0]
    assert "OMP" not in lines[0]


def one_card():
    return card.card(["digits"], place=NodePlacement(count=2), seed=1, procs=1, threads=1)


def test_interface_towards_this_machine_is_loopback():
    """Where node 0 is 127.0.0.1, all nodes are on this machine."""
    assert interface.interface_towards("127.0.0.1") == "lo"


def test_nccl_gets_the_exact_name_of_the_interface_and_a_user_s_choice_stays(monkeypatch):
    """It takes a name alone for a prefix: eth1 would be eth10 as well."""
    monkeypatch.setattr(interface, "interface_towards", lambda host: "eth1")
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    monkeypatch.delenv("NCCL_SOCKET_IFNAME", raising=False)
    place = NodePlacement(count=2, endpoint="10.0.0.4:29400")

    interface.set_interface(place)
    first = {name: os.environ[name] for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")}
    monkeypatch.setenv("NCCL_SOCKET_IFNAME", "ib0")
    interface.set_interface(place)

    assert first == {"GLOO_SOCKET_IFNAME": "eth1", "NCCL_SOCKET_IFNAME": "=eth1"}
    assert os.environ["NCCL_SOCKET_IFNAME"] == "ib0"


def test_nodes_that_count_differently_are_refused():
    """More nodes on one side: that side is told, and nobody waits for what will never come."""
    port = free_port()
    told = ended(*(start(rank, 2 + rank, port, 1, 20) for rank in (0, 1)))

    assert {code for _, code in told} == {98}
    assert all("Node 1 (host1) has nodes 3, node 0 (host0) has 2." in out for out, _ in told)


def test_node_beyond_the_number_of_nodes_is_refused():
    """The others train without it; it hears at once that its number is none of theirs."""
    port = free_port()
    beyond = start(2, 3, port, 1, 30)
    told = ended(*(start(rank, 2, port, 1, 30) for rank in (0, 1)), beyond)

    assert [code for _, code in told] == [0, 0, 98]
    assert "Node 2 (host2) has nodes 3, node 0 (host0) has 2." in told[2][0]


def test_guest_waits_for_a_job_that_starts_again(tmp_path):
    """A node that is faster than node 0 meets the end of the old start first."""
    port = free_port()
    old = meeting.Process(meeting.go_on_alone, port)
    assert old.hear() == "ready"
    early = start(1, 2, port, 1, 60)
    assert old.hear() == "node 1 waits for the next round"
    old.kill()
    told = ended(early, start(0, 2, port, 1, 60))

    assert [code for _, code in told] == [0, 0], told
