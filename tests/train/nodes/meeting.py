"""Processes that meet as nodes do, each a fork of one that has loaded torch: that takes longest."""

import json
import multiprocessing
import time
from multiprocessing import connection

from samerun.core.errors import SamerunError
from samerun.core.placement import NodePlacement

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["torch.distributed", "samerun.train.nodes.rendezvous"])


class Process:
    """A process that runs *what*, a function of this module, and says something."""

    def __init__(self, what, *arguments):
        self._mouth, mouth = _context.Pipe(duplex=False)
        self._process = _context.Process(target=what, args=(mouth, *arguments))
        self._process.start()
        mouth.close()

    def hear(self, seconds=60):
        """Return what the process says next."""
        assert self._mouth.poll(seconds), "The process says nothing."
        return self._mouth.recv()

    def ended(self):
        """Return the last words and the exit code."""
        said = self.hear()
        self._process.join(60)
        return said, self._process.exitcode

    def kill(self):
        self._process.kill()
        self._process.join()


def first_to_speak(processes):
    """Wait until one of them says something, and return it."""
    (mouth, *_) = connection.wait([process._mouth for process in processes], timeout=60)
    return next(process for process in processes if process._mouth is mouth)


def start(rank, count, port, seed, timeout_s, silence_s=None):
    """Start a node that meets the others, and ends its part at once."""
    return Process(meet, rank, count, port, seed, timeout_s, silence_s)


def meet(mouth, rank, count, port, seed, timeout_s, silence_s):
    from samerun.train.nodes import store
    from samerun.train.nodes.decision import Decision, Report
    from samerun.train.nodes.rendezvous import Follower, Leader

    store.SILENCE_S = silence_s or store.SILENCE_S
    place = NodePlacement(count=count, rank=rank, endpoint=f"127.0.0.1:{port}", timeout_s=timeout_s)
    card = {"host": f"host{rank}", "must": {"seed": seed, "nodes": count}}
    try:
        seat = Follower(place, card) if rank else Leader(place, card)
        cards = seat.gather().cards
        seat.close(Report(code=0)) if rank else seat.tell(Decision(), to=count - 1)
        mouth.send(json.dumps([cards[rank]["host"] for rank in sorted(cards)]))
    except SamerunError as error:
        mouth.send(str(error))
        raise SystemExit(error.exit_code) from None


def go_on_alone(mouth, port):
    """Be a node 0 whose round goes on, with nobody of this job's new start in it."""
    from samerun.train.nodes.rendezvous import Leader

    leader = Leader(NodePlacement(count=2, rank=0, endpoint=f"127.0.0.1:{port}"), {"must": {}})
    members = {
        "cards": {"0": {"must": {}}, "1": {"id": "other"}},
        "port": 1,
        "missing": [],
        "problem": "",
        "refused": {},
    }
    leader._store.put("round", 0)
    leader._store.put("0/members", members)
    mouth.send("ready")
    while not leader._store.has("1/card/1"):
        time.sleep(0.05)
    mouth.send("node 1 waits for the next round")
    time.sleep(60)
