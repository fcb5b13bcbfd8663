"""Several nodes for real: containers of their own, on a network of their own."""

import json
import os
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from driving import invoke

from samerun.core import contract, record

# A run of the tests that was killed leaves its network.
NETWORK = f"samerun-test-nodes-{os.getpid()}"
PORT = 29400
SCRIPT = Path(__file__).parent / "script" / "slow.py"
EPOCHS = 120
# One CPU each: another number of threads is another order of additions.
ONE_CPU = "--docker-arg=--cpuset-cpus=0"


@pytest.fixture(scope="module")
def network():
    """A bridge on which containers find each other by name, as hosts in a cluster do."""
    subprocess.run(["docker", "network", "create", NETWORK], check=True, capture_output=True)
    yield NETWORK
    subprocess.run(["docker", "network", "rm", NETWORK], check=False, capture_output=True)


def train(output, name, network, *options, rank=0, procs=1, epochs=2):
    what = ["tabular", "--nodes", 2, "--procs", procs, *options]
    return on_node(output, name, network, *what, rank=rank, after=["--epochs", epochs])


def on_node(output, name, network, target, *options, rank, after):
    place = ["--node-rank", rank, "--rdzv", f"samerun-{name}:{PORT}"]
    where = ["--gpus", "0", "--network", network, "--output", output, "--name", name, ONE_CPU]
    return invoke("train", target, *place, *where, *options, "--", *after)


def together(*calls):
    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]


def test_nodes_train_what_one_machine_trains(image, network, tmp_path):
    """Two nodes of two processes, reproduced by four on one: the same bits; one W&B run."""
    nodes = together(
        *(lambda r=rank: train(tmp_path, "job", network, rank=r, procs=2) for rank in (0, 1))
    )
    assert [done.returncode for done in nodes] == [0, 0], nodes[0].stderr + nodes[1].stderr
    again = ["--output", tmp_path, "--name", "alone", "--no-network"]
    one = invoke("reproduce", tmp_path / "job", *again)
    of_node_1 = invoke("reproduce", tmp_path / "job-node1", "--check")

    assert one.returncode == 0, one.stdout + one.stderr
    assert "identical" in one.stdout
    assert of_node_1.returncode == 95
    assert "Give the run of node 0" in of_node_1.stderr
    first, second, single = (record.read(tmp_path / n) for n in ("job", "job-node1", "alone"))
    for name in ("weights_sha256", "metric_history_sha256"):
        assert first.result[name] == single.result[name]
    # Left to itself, a process would take as many as there are cores for it.
    threads = {run.environment["variables"]["OMP_NUM_THREADS"] for run in (first, single)}
    assert threads == {"1"}
    steps = [(tmp_path / n / contract.STEPS).read_text() for n in ("job", "alone")]
    assert steps[0] == steps[1]
    assert (len(first.wandb), len(second.wandb)) == (1, 0)
    assert (first.topology.procs, single.topology.procs, single.topology.nodes) == (2, 4, 1)
    assert [node["must"]["image"] for node in first.nodes] == [image["layers_digest"]] * 2
    assert [node["hardware"]["cores"] for node in first.nodes] == [first.hardware.cores] * 2
    assert "node 1 of 2" in nodes[1].stdout


def test_nodes_that_disagree_do_not_start(image, network, tmp_path):
    """Each of them says who differs in what, and exits with 98."""
    done = together(
        *(
            lambda r=rank: train(tmp_path, "odd", network, "--seed", r + 1, rank=r)
            for rank in (0, 1)
        )
    )

    host = socket.gethostname()
    assert [d.returncode for d in done] == [98, 98]
    for d in done:
        assert f"Node 1 ({host}) has seed 2, node 0 ({host}) has 1." in d.stderr


def test_node_that_stays_away_ends_the_wait(image, network, tmp_path):
    """After --rdzv-timeout, naming the node that is missing."""
    done = train(tmp_path, "alone-of-two", network, "--rdzv-timeout", "3")

    assert done.returncode == 99
    assert "Node 1 of 2 did not join within 3 s" in done.stderr


def test_lost_node_ends_the_others_and_all_go_on(image, network, tmp_path):
    """The node that is left fails soon; both resumed end with the weights of one machine."""

    def kill():
        begun = tmp_path / "lost" / "checkpoints"
        while not list(begun.glob("000-00005-*.json")):
            time.sleep(0.05)
        subprocess.run(["docker", "kill", "samerun-lost-node1"], check=True, capture_output=True)

    long = {"epochs": 20}
    left, lost, _ = together(
        lambda: train(tmp_path, "lost", network, rank=0, **long),
        lambda: train(tmp_path, "lost", network, rank=1, **long),
        kill,
    )
    same = ["--network", network, ONE_CPU]
    again = together(
        lambda: invoke("train", "--resume", tmp_path / "lost", *same),
        lambda: invoke("train", "--resume", tmp_path / "lost-node1", *same),
    )
    alone = ["--gpus", "0", "--procs", "2", "--output", tmp_path, "--name", "one", ONE_CPU]
    one = invoke("train", "tabular", *alone, "--", "--epochs", "20")

    assert lost.returncode == 137
    assert left.returncode == 105
    assert f"Node 1 ({socket.gethostname()}) was lost." in left.stderr
    assert "resume" in left.stdout
    assert [done.returncode for done in (*again, one)] == [0, 0, 0], again[0].stderr
    resumed, whole = record.read(tmp_path / "lost"), record.read(tmp_path / "one")
    assert resumed.starts[-1]["resumed"]
    for name in ("weights_sha256", "metric_history_sha256"):
        assert resumed.result[name] == whole.result[name]


def part(folder, name):
    try:
        return json.loads((folder / ".samerun" / f"{name}.json").read_text())
    except OSError:
        return {}


def await_round(folder, number):
    while len(part(folder, "rounds").get("rounds", ())) < number:
        time.sleep(0.2)


def test_job_goes_on_without_a_node_and_takes_it_in_again(image, network, tmp_path):
    """Cut off from the network, as by a broken switch; resumed, it joins the others again."""
    first, second = tmp_path / "may", tmp_path / "may-node1"

    def trouble():
        while not list((first / "checkpoints").glob("000-00005-*.json")):
            time.sleep(0.05)
        cut = ["docker", "network", "disconnect", "--force", network, "samerun-may-node1"]
        subprocess.run(cut, check=True, capture_output=True)
        await_round(first, 2)
        while record.read(second).outcome.state == "running":
            time.sleep(0.2)
        return invoke("train", "--resume", second, "--network", network, ONE_CPU)

    def node(rank):
        what = [SCRIPT, "--nodes", "1:2"]
        return on_node(tmp_path, "may", network, *what, rank=rank, after=[EPOCHS, "0.2"])

    done, cut, again = together(lambda: node(0), lambda: node(1), trouble)
    made, host = record.read(first), socket.gethostname()

    assert [x.returncode for x in (done, cut, again)] == [0, 105, 0], done.stdout + again.stdout
    assert [one.nodes for one in made.rounds] == [(0, 1), (0,), (0, 1)]
    assert made.rounds[1].why == f"Node 1 ({host}) was lost"
    assert f"2, then 1 (Node 1 ({host}) was lost), then 2" in done.stdout
    assert len(made.result["epochs"]) == EPOCHS
    assert len({one.id for one in made.wandb}) == 1
    assert "--nodes 1:2" in done.stdout
