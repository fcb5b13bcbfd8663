"""Nodes that are lost, leave and come while a job goes on; each is a process tree here."""

import json
import os
import re
import signal
import socket
import subprocess
import time

import pytest
from resuming import EVERY_EPOCH, command, ours, part, settings
from sample import sample

from samerun.core import parts, record
from samerun.train.nodes import rounds

# Many epochs with time between them while nodes come and go; then the rest at once.
EPOCHS, PAUSE_S = 120, 0.5


class Node:
    """The entry of one node, with all that it starts, in a folder of its own."""

    def __init__(self, folder, rank, *place, port, training=("distributed",)):
        self.folder = folder
        self.folder.mkdir(exist_ok=True)
        record.write(folder, sample())
        self.log = folder / "log.txt"
        # The last --procs wins.
        options = ["--node-rank", rank, "--rdzv", f"127.0.0.1:{port}", "--procs", 1, *place]
        line = [*command(*training)[:3], *map(str, options), *command(*training)[3:]]
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                line,
                cwd=folder,
                env={**ours(), **settings(folder, EVERY_EPOCH)},
                stdout=log,
                stderr=log,
            )

    def signal_all(self, number):
        """Send a signal to every process of the node at once, as a power cut would."""
        for pid in [self.process.pid, *rounds._descendants(self.process.pid)]:
            os.kill(pid, number)

    def wait(self, seconds=240):
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.end()
            pytest.fail(f"The node still trains:\n{self.said()[-3000:]}")

    def end(self):
        if self.process.poll() is None:
            self.signal_all(signal.SIGKILL)
            self.process.wait()

    def said(self):
        return self.log.read_text()

    def await_epoch(self, number):
        """Wait until a checkpoint of the end of an epoch, at least *number*, lies there."""
        until = time.monotonic() + 180
        while time.monotonic() < until:
            names = [p.stem for p in (self.folder / "checkpoints").glob("*.json")]
            epochs = [int(m[1]) for n in names if (m := re.fullmatch(r"001-(\d+)-0000000", n))]
            if epochs and max(epochs) >= number:
                return max(epochs)
            time.sleep(0.05)
        pytest.fail(f"No epoch {number}:\n{self.said()[-3000:]}")


@pytest.fixture
def start(tmp_path):
    """Return what starts a node; what is left of them is ended."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    nodes = []

    def start(name, rank, *place, **options):
        nodes.append(Node(tmp_path / name, rank, *place, port=port, **options))
        return nodes[-1]

    yield start
    for node in nodes:
        node.end()


def rounds_of(node):
    return [(tuple(one["nodes"]), one["why"]) for one in part(node.folder, "rounds")["rounds"]]


def test_job_shrinks_grows_and_ends_as_its_nodes_come_and_go(start):
    """One node killed, come back, and asked to stop: the other has each epoch once, and exits 0."""
    host = socket.gethostname()
    training = ("distributed", "--epochs", EPOCHS, "--pause", PAUSE_S)
    place = ("--nodes", 2, "--least-nodes", 1)
    first = start("first", 0, *place, training=training)
    lost = start("lost", 1, *place, training=training)
    first.await_epoch(3)
    lost.signal_all(signal.SIGKILL)
    while "went on" not in first.said() and len(part(first.folder, "rounds")["rounds"]) < 2:
        time.sleep(0.1)
        assert first.process.poll() is None, first.said()
    first.await_epoch(first.await_epoch(1) + 3)
    back = start("back", 1, *place, training=training)
    while len(part(first.folder, "rounds")["rounds"]) < 3:
        time.sleep(0.1)
        assert first.process.poll() is None, first.said()
    first.await_epoch(first.await_epoch(1) + 3)
    back.process.send_signal(signal.SIGTERM)
    (first.folder / "enough").touch()

    assert (back.wait(), first.wait()) == (75, 0), first.said()[-3000:]
    assert rounds_of(first) == [
        ((0, 1), ""),
        ((0,), f"Node 1 ({host}) was lost"),
        ((0, 1), ""),
        ((0,), f"Node 1 ({host}) was asked to stop"),
    ]
    starts = part(first.folder, "starts")["starts"]
    assert [one["processes"] for one in starts] == [2, 1, 2, 1]
    assert all(one["resumed"]["batch"] == 0 for one in starts[1:])
    told = [json.loads(x) for x in (first.folder / ".samerun" / "epochs.jsonl").open()]
    assert [line["epoch"] for line in told][-EPOCHS:] == list(range(EPOCHS))


def test_node_that_vanishes_without_a_word_ends_the_job(start):
    """As by a power cut: nothing is closed, and yet the other knows within half a minute."""
    training = ("distributed", "--epochs", 100_000)
    first, other = (start(str(rank), rank, "--nodes", 2, training=training) for rank in (0, 1))
    first.await_epoch(2)
    other.signal_all(signal.SIGSTOP)
    began = time.monotonic()

    assert first.wait() == 105, first.said()
    assert time.monotonic() - began < 30
    assert f"Node 1 ({socket.gethostname()}) was lost." in first.said()
    assert "--resume" in first.said()
    assert part(first.folder, "failure-job")["kind"] == "node lost"


def test_first_node_that_vanishes_ends_the_others(start):
    """It has the checkpoints, and the address where all meet: nobody can go on without it."""
    training = ("distributed", "--epochs", 100_000)
    place = ("--nodes", 2, "--least-nodes", 1)
    first, other = (start(str(rank), rank, *place, training=training) for rank in (0, 1))
    first.await_epoch(2)
    first.signal_all(signal.SIGSTOP)

    assert other.wait() == 105, other.said()
    assert "Node 0" in other.said()


def test_failure_of_one_node_is_the_exit_code_of_all(start):
    """A bug on node 1 ends the job, also one that may shrink, and is named on both."""
    training = ("distributed", "--kill", 5, "--rank", 1)
    place = ("--nodes", 2, "--least-nodes", 1)
    nodes = [start(str(rank), rank, *place, training=training) for rank in (0, 1)]

    assert [node.wait() for node in nodes] == [137, 137], nodes[0].said()
    for node in nodes:
        assert f"Node 1 ({socket.gethostname()}) failed first, with exit code 137." in node.said()
    failure = parts.cause_of_failure(nodes[0].folder)
    assert (failure["kind"], failure["rank"]) == ("killed", 1)
