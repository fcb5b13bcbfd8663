"""Several nodes: who meets, who is refused, and what they train together."""

import json
import socket
import subprocess
import sys

from samerun.train import nodes

MEET = """
import json, sys
from samerun.errors import SamerunError
from samerun.train.nodes import Nodes, meet
rank, count, port, seed, timeout = map(int, sys.argv[1:])
place = Nodes(count=count, rank=rank, endpoint=f"127.0.0.1:{port}", timeout_s=timeout)
try:
    cards = meet(place, {"host": f"host{rank}", "must": {"seed": seed}})
    print(json.dumps([card["host"] for card in cards]))
except SamerunError as error:
    print(error)
    sys.exit(error.exit_code)
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
    assert all("Node 2 of 3 did not come within 3 s" in out for out, _ in told)


def test_absent_node_0_ends_the_wait():
    """The message names the address, the time, and what to look at."""
    ((out, code),) = ended(start(MEET, 1, 2, free_port(), 1, 2))

    assert code == 99
    assert "did not answer" in out
    assert "firewall" in out


def test_two_nodes_of_one_rank_are_told_apart():
    """The second one is refused; the first goes on to wait for the right one."""
    port = free_port()
    first, second = (start(MEET, 1, 2, port, 1, 30) for _ in range(2))
    other = start(MEET, 0, 2, port, 1, 30)
    codes = [code for _, code in ended(first, second, other)]

    assert sorted(codes) == [0, 0, 99]


def test_interface_towards_this_machine_is_loopback():
    """Where node 0 is 127.0.0.1, all nodes are on this machine."""
    assert nodes.interface_towards("127.0.0.1") == "lo"


def test_every_difference_is_told():
    """One line for each node and each thing that must be the same."""
    cards = [
        {"host": "a", "must": {"seed": 1, "image": "x"}},
        {"host": "b", "must": {"seed": 1, "image": "x"}},
        {"host": "c", "must": {"seed": 2, "image": "y"}},
    ]

    assert nodes.disagreement(cards[:2]) == ""
    assert nodes.disagreement(cards).splitlines() == [
        "Node 2 (c) has seed 2, node 0 (a) has 1.",
        "Node 2 (c) has image y, node 0 (a) has x.",
    ]


def test_two_nodes_train_what_two_processes_on_one_train(tmp_path):
    """The same world size gives the same metrics, to the printed digit, wherever its ranks are."""
    port = free_port()
    places = [["--nodes", "2", "--node-rank", rank, "--rdzv", f"127.0.0.1:{port}"] for rank in "01"]
    lines = []
    for group in (places, [["--procs", "2"]]):
        processes = []
        for number, place in enumerate(group):
            folder = tmp_path / f"{len(group)}-{number}"
            folder.mkdir()
            command = [sys.executable, "-m", "samerun.train", *place, "tabular", "--epochs", "2"]
            processes.append(
                subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
            )
        told = ended(*processes)
        assert {code for _, code in told} == {0}
        lines.append([line[:46] for line in told[0][0].splitlines() if line[:2] in {"0 ", "1 "}])

    assert len(lines[0]) == 2
    assert lines[0] == lines[1]
