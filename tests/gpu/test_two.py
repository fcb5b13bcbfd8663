"""
Two processes and NCCL: on two GPUs, or both on one.

NCCL refuses two ranks on one card of one machine, so on one card each rank is a node with a
name of its own, and the two talk over sockets.
"""

import socket
import time

import pytest
import torch
from resuming import outcome
from starting import beside, script, train


def free_port():
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return bound.getsockname()[1]


def together(top, *options, name="trainings"):
    """Train on two processes; return the exit codes, and the folder with the results."""
    if torch.cuda.device_count() >= 2:
        return [train(top, script(name), *options, procs=2, SAMERUN_GPUS="2")], top
    rendezvous = f"127.0.0.1:{free_port()}"

    def node(rank):
        entry = ["--nodes", 2, "--node-rank", rank, "--rdzv", rendezvous]
        apart = {"NCCL_HOSTID": f"node-{rank}", "NCCL_SOCKET_IFNAME": "lo"}
        where = top / f"node-{rank}"
        return lambda: train(where, script(name), *options, entry=entry, **apart)

    return beside([node(0), node(1)]), top / "node-0"


@pytest.mark.gpus(1)
def test_two_processes_repeat_and_resume_to_the_bit(tmp_path, table):
    (codes, first), (again, second) = (together(tmp_path / n, "distributed") for n in "ab")
    assert {*codes, *again} == {0}, (first / "log.txt").read_text()
    found = outcome(first)
    twice = outcome(second) == found
    table("two processes over NCCL: trained twice", "same bits" if twice else "DIFFERENT")

    broken, third = together(tmp_path / "c", "distributed", "--kill", 4)
    resumed, third = together(tmp_path / "c", "distributed")
    assert 0 not in broken
    assert set(resumed) == {0}, (third / "log.txt").read_text()
    kept = outcome(third) == found
    table("two processes over NCCL: killed and resumed", "same bits" if kept else "DIFFERENT")
    assert twice
    assert kept


@pytest.mark.gpus(1)
def test_rank_that_waits_in_nccl_for_a_failed_one_ends_by_itself(tmp_path, table):
    """
    With the code of the first failure, and not by the launcher's SIGKILL.

    Over sockets NCCL itself notices that the other is gone; over NVLink it waits, and is freed.
    """
    began = time.monotonic()
    codes, first = together(tmp_path, "raised", "--rank", 1, name="failing")
    said = (first / "log.txt").read_text()
    freed = "freed by samerun" if "waited for another rank" in said else "NCCL noticed it"
    how = f"exit codes {codes} after {time.monotonic() - began:.0f} s,"
    table("an exception in one of two processes over NCCL", how, freed)
    assert set(codes) == {1}, said
    assert "signal 9" not in said
