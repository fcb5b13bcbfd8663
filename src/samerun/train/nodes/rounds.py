"""
One training on several nodes: round after round, until it ends.

Each round is torch's own launcher in a process below this one. When a node is lost, is
asked to stop, or comes (back), node 0 decides whether the job ends or goes on with those
that are there, from the last checkpoint.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from samerun.core import contract, parts, record
from samerun.core.errors import NodeLost
from samerun.core.placement import NodePlacement
from samerun.train import launcher
from samerun.train.nodes.card import Card
from samerun.train.nodes.decision import Decision, Report, decide
from samerun.train.nodes.rendezvous import REMEDY_LOST, Follower, Leader, Members, name_all
from samerun.train.report import reporting
from samerun.train.report.quiet import quietly

STEP_S = 0.2
# A node's failure reaches the others through their connections, as a rule at once.
GRACE_S = 15.0
# What stops at a signal writes a checkpoint, and W&B's last rows.
GRACE_OF_STOP_S = contract.STOP_TIMEOUT_S + 15.0
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


def run(nodes: NodePlacement, card: Card, procs: int, worker: Sequence[str]) -> int:
    """
    Train with the other nodes, and return the job's exit code: the same on all of them.

    *procs* processes on each node run *worker*, arguments of Python.

    Raises:
        RendezvousFailed, NodesDisagree, NodeLost: With the nodes' names.
    """
    seat = Follower(nodes, card) if nodes.rank else Leader(nodes, card)
    try:
        return _run(seat, procs, worker)
    finally:
        seat.leave()


def _run(seat: Leader | Follower, procs: int, worker: Sequence[str]) -> int:
    nodes = seat.nodes
    cards: dict[int, Card] = {}
    why = ""
    while True:
        members = seat.gather()
        cards |= members.cards
        quietly("report the round", _report, nodes, members, cards, why)
        with _signals() as asked:
            process = _start(nodes, members, procs, worker)
            word, verdict = _follow(seat, process, asked)
        why = name_all(verdict.why, cards)
        if word.leaves or not verdict.again:
            return _end(nodes, verdict, why)
        _say(f"{why or 'Another node came'}. The job goes on with the nodes that are there.")


def _report(nodes: NodePlacement, members: Members, cards: Mapping[int, Card], why: str) -> None:
    """Report all nodes that ever took part; node 0 also which of them, from when on, and why."""
    reporting.forget_end()
    reporting.report("nodes", {"nodes": [cards[rank] for rank in sorted(cards)]})
    if nodes.rank or not reporting.is_recorded():
        return
    before = parts.read_part(reporting.folder(), "rounds").get("rounds") or []
    entry = {"began": record.now(), "nodes": list(members.ranks), "why": why}
    reporting.report("rounds", {"rounds": [*before, entry]})


def _start(
    nodes: NodePlacement, members: Members, procs: int, worker: Sequence[str]
) -> "subprocess.Popen[bytes]":
    threads = os.environ.get("OMP_NUM_THREADS") or str(members.threads)
    variables = {"OMP_NUM_THREADS": threads}
    if nodes.is_elastic:
        variables[contract.ENV_ELASTIC] = "1"
    line = launcher.command(procs, members.place(nodes), worker)
    return subprocess.Popen(line, env=os.environ | variables)


def _follow(
    seat: Leader | Follower, process: "subprocess.Popen[bytes]", asked: "Signals"
) -> tuple[Report, Decision]:
    if isinstance(seat, Leader):
        return Lead(seat, process, asked).follow()
    ordered = False
    while process.poll() is None:
        time.sleep(STEP_S)
        asked.pass_on(process)
        if not ordered and seat.is_ordered():
            ordered = True
            _kill(process)
    word = _word(process, asked, ordered=ordered)
    return word, seat.close(word)


class Lead:
    """A round as node 0 follows it."""

    def __init__(self, chair: Leader, process: "subprocess.Popen[bytes]", asked: "Signals") -> None:
        self.chair, self.process, self.asked = chair, process, asked
        self.ordered = self.grows = False
        self.ending_since: float | None = None

    def follow(self) -> tuple[Report, Decision]:
        """Watch until the round has ended on every node that is there; then decide."""
        while True:
            time.sleep(STEP_S)
            self.asked.pass_on(self.process)
            words = self._words()
            gone = [rank for rank in self.chair.silent() if rank not in words]
            if not self.ordered and (gone or self._is_overdue(words)):
                self.ordered = True
                self.chair.order_end()
                _kill(self.process)
            if all(rank in words or rank in gone for rank in self.chair.members.ranks):
                break
            self._take_in()
        members, nodes = self.chair.members, self.chair.nodes
        verdict = decide(members.ranks, words, nodes.needed, grows=self.grows)
        self.chair.tell(verdict, to=len(words) - 1)
        return words[0], verdict

    def _words(self) -> dict[int, Report]:
        words = self.chair.words()
        if self.process.poll() is not None:
            words[0] = _word(self.process, self.asked, ordered=self.ordered)
        return words

    def _is_overdue(self, words: Mapping[int, Report]) -> bool:
        """Whether the round has ended badly on a node, and others do not come to an end."""
        bad = [word for word in words.values() if word.code]
        if not bad:
            return False
        self.ending_since = self.ending_since or time.monotonic()
        stops = all(word.leaves or word.code == contract.EXIT_PREEMPTED for word in bad)
        grace = GRACE_OF_STOP_S if stops else GRACE_S
        return time.monotonic() - self.ending_since > grace

    def _take_in(self) -> None:
        """Let the training pause at the end of its epoch, where a node waits to take part."""
        if not self.grows and self.chair.newcomers():
            self.grows = True
            _say("A node came; it is taken in at the end of this epoch.")
            quietly("ask for a pause", reporting.ask_pause)


def _word(process: "subprocess.Popen[bytes]", asked: "Signals", *, ordered: bool) -> Report:
    code = launcher.exit_code(process.returncode)
    failure = parts.first_failure(reporting.folder()) if reporting.is_recorded() else None
    return Report(
        code=code, leaves=bool(asked.numbers), ordered=ordered, failure=failure if code else None
    )


def _end(nodes: NodePlacement, verdict: Decision, why: str) -> int:
    """
    Say and report how the job ended, and return its exit code.

    Raises:
        NodeLost: It ended because of that.
    """
    lost = verdict.code == NodeLost.exit_code and verdict.failed is None
    if nodes.rank == 0 and (lost or verdict.failure):
        told = {"kind": "node lost", "what": why, "rank": None, "where": None}
        # Time 0: what its processes report of it came after.
        failure = {**(told if lost else verdict.failure or {}), "time": 0.0}
        quietly("report the failure", reporting.report, "failure-job", failure)
    if lost:
        raise NodeLost(f"{why}.", REMEDY_LOST)
    if verdict.code and why:
        _say(f"{why}.")
    return verdict.code


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """Kill the launcher and all below it: what waits for a lost node hears no signal."""
    for pid in [process.pid, *_below(process.pid)]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _below(pid: int) -> list[int]:
    """Return all descendants of a process; torch's workers have sessions of their own."""
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            # The name, in brackets, may hold anything.
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            parents.setdefault(parent, []).append(int(path.parent.name))
    found = [pid]
    for one in found:
        found += parents.get(one, [])
    return found[1:]


class Signals:
    """The signals to this node, and which of them the launcher has heard."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self._passed = 0

    def note(self, number: int, frame: object) -> None:
        """Note a signal."""
        self.numbers.append(number)

    def pass_on(self, process: "subprocess.Popen[bytes]") -> None:
        """Send on what came since the last call."""
        while self._passed < len(self.numbers):
            process.send_signal(self.numbers[self._passed])
            self._passed += 1


@contextlib.contextmanager
def _signals() -> Iterator[Signals]:
    asked = Signals()
    before = {number: signal.signal(number, asked.note) for number in SIGNALS}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _say(text: str) -> None:
    sys.stderr.write(f"samerun: {text}\n")
