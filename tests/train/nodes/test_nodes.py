"""Several nodes: who meets, who is refused, and what they train together."""

import json
import socket
import subprocess
import sys
import time

from samerun.train.nodes import interface

MEET = """
import json, sys
from samerun.core.errors import SamerunError
from samerun.core.placement import NodePlacement
from samerun.train.nodes.decision import Decision, Report
from samerun.train.nodes.rendezvous import Follower, Leader
rank, count, port, seed, timeout = map(int, sys.argv[1:])
place = NodePlacement(count=count, rank=rank, endpoint=f"127.0.0.1:{port}", timeout_s=timeout)
card = {"host": f"host{rank}", "must": {"seed": seed, "nodes": count}}
try:
    node = Follower(place, card) if rank else Leader(place, card)
    cards = node.gather().cards
    node.close(Report(code=0)) if rank else node.tell(Decision(), to=count - 1)
    print(json.dumps([cards[rank]["host"] for rank in sorted(cards)]))
except SamerunError as error:
    print(error)
    sys.exit(error.exit_code)
"""

# A node 0 whose round goes on, with nobody of this job's new start in it.
OLD = """
import sys, time
from samerun.core.placement import NodePlacement
from samerun.train.nodes.rendezvous import Leader
place = NodePlacement(count=2, rank=0, endpoint=f"127.0.0.1:{sys.argv[1]}")
leader = Leader(place, {"must": {}})
leader._store.put("round", 0)
leader._store.put("0/members", {"cards": {"0": {"must": {}}, "1": {"id": "other"}}, "port": 1,
    "missing": [], "problem": "", "refused": {}})
print("ready", flush=True)
time.sleep(60)
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(code, *arguments, **options):
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options)


def ended(*processes):
    return [(p.communicate(timeout=60)[0].strip(), p.returncode) for p in processes]


def test_nodes_that_agree_know_each_other():
    """Every node gets every card, in the order of the ranks."""
    port = free_port()
    told = ended(*(start(MEET, rank, 2, port, 1, 30) for rank in (1, 0)))

    assert [(json.loads(out), code) for out, code in told] == [(["host0", "host1"], 0)] * 2


def test_nodes_that_differ_are_refused_on_every_node():
    """Before anything trains; the message says who differs in what."""
    port = free_port()
    told = ended(*(start(MEET, rank, 2, port, seed, 30) for rank, seed in ((0, 1), (1, 2))))

    assert {code for _, code in told} == {98}
    for out, _ in told:
        assert "Node 1 (host1) has seed 2, node 0 (host0) has 1." in out


def test_node_that_does_not_come_is_named_to_all_that_wait():
    """After a bounded wait; nobody is left behind in a rendezvous without end."""
    port = free_port()
    told = ended(*(start(MEET, rank, 3, port, 1, 3) for rank in (0, 1)))

    assert {code for _, code in told} == {99}
    assert all("Node 2 of 3 did not join within 3 s" in out for out, _ in told)


def test_absent_node_0_ends_the_wait():
    """The message names the address, the time, and what to look at."""
    ((out, code),) = ended(start(MEET, 1, 2, free_port(), 1, 2))

    assert code == 99
    assert "did not respond" in out
    assert "firewall" in out


def test_another_service_at_the_address_is_told():
    """It takes the connection and says nothing: torch alone would wait for ever."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        ((out, code),) = ended(start(MEET, 1, 2, server.getsockname()[1], 1, 1))

    assert code == 99
    assert "another program listens there" in out


def test_two_nodes_of_one_rank_are_told_apart():
    """The second one is refused; the first goes on to wait for the right one."""
    port = free_port()
    first, second = (start(MEET, 1, 2, port, 1, 30) for _ in range(2))
    other = start(MEET, 0, 2, port, 1, 30)
    codes = [code for _, code in ended(first, second, other)]

    assert sorted(codes) == [0, 0, 99]


def test_interface_towards_this_machine_is_loopback():
    """Where node 0 is 127.0.0.1, all nodes are on this machine."""
    assert interface.interface_towards("127.0.0.1") == "lo"


def test_nodes_that_count_differently_are_refused():
    """More nodes on one side: that side is told, and nobody waits for what will never come."""
    port = free_port()
    told = ended(*(start(MEET, rank, 2 + rank, port, 1, 20) for rank in (0, 1)))

    assert {code for _, code in told} == {98}
    assert all("Node 1 (host1) has nodes 3, node 0 (host0) has 2." in out for out, _ in told)


def test_node_beyond_the_number_of_nodes_is_refused():
    """The others train without it; it hears at once that its number is none of theirs."""
    port = free_port()
    beyond = start(MEET, 2, 3, port, 1, 30)
    told = ended(*(start(MEET, rank, 2, port, 1, 30) for rank in (0, 1)), beyond)

    assert [code for _, code in told] == [0, 0, 98]
    assert "Node 2 (host2) has nodes 3, node 0 (host0) has 2." in told[2][0]


def test_guest_waits_for_a_job_that_starts_again(tmp_path):
    """A node that is faster than node 0 meets the end of the old start first."""
    port = free_port()
    old = subprocess.Popen(
        [sys.executable, "-c", OLD, str(port)], stdout=subprocess.PIPE, text=True
    )
    assert old.stdout.readline() == "ready\n"
    early = start(MEET, 1, 2, port, 1, 60)
    time.sleep(5)
    old.kill()
    told = ended(early, start(MEET, 0, 2, port, 1, 60))

    assert [code for _, code in told] == [0, 0], told


def test_two_nodes_train_what_two_processes_on_one_train(tmp_path):
    """The same world size gives the same metrics, to the printed digit, wherever its ranks are."""
    port = free_port()
    places = [["--nodes", "2", "--node-rank", rank, "--rdzv", f"127.0.0.1:{port}"] for rank in "01"]
    lines = []
    for group in (places, [["--procs", "2"]]):
        processes = []
        for number, options in enumerate(group):
            folder = tmp_path / f"{len(group)}-{number}"
            folder.mkdir()
            command = [sys.executable, "-m", "samerun.train", *options, "tabular", "--epochs", "2"]
            processes.append(
                subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
            )
        told = ended(*processes)
        assert {code for _, code in told} == {0}
        lines.append([line[:46] for line in told[0][0].splitlines() if line[:2] in {"0 ", "1 "}])

    assert len(lines[0]) == 2
    assert lines[0] == lines[1]
