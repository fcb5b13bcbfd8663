"""
Training on several nodes: round after round, until it ends.

Each round runs torch's launcher in a child process. If a node is lost, gets a signal to stop,
or joins, node 0 decides whether the job ends or continues with the present nodes, from the
last checkpoint.
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
# The other nodes usually notice a failure at once, through their connections.
GRACE_S = 15.0
# A node that stops after a signal writes a checkpoint, and W&B's last rows.
GRACE_OF_STOP_S = contract.STOP_TIMEOUT_S + 15.0
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


def run(nodes: NodePlacement, card: Card, procs: int, worker: Sequence[str]) -> int:
    """
    Train with the other nodes, and return the job's exit code, the same on all of them.

    *procs* processes on each node run *worker*, arguments of Python.

    Raises:
        RendezvousFailed, NodesDisagree, NodeLost: The message names the nodes.
    """
    node = Follower(nodes, card) if nodes.rank else Leader(nodes, card)
    try:
        return _run(node, procs, worker)
    finally:
        node.leave()


def _run(node: Leader | Follower, procs: int, worker: Sequence[str]) -> int:
    nodes = node.nodes
    cards: dict[int, Card] = {}
    why = ""
    while True:
        members = node.gather()
        cards |= members.cards
        quietly("report the round", _report, nodes, members, cards, why)
        with _signals() as signals:
            process = _start(nodes, members, procs, worker)
            report, decision = _follow(node, process, signals)
        why = name_all(decision.why, cards)
        if report.leaves or not decision.again:
            return _end(nodes, decision, why)
        _say(f"{why or 'Another node joined'}. The job continues with the present nodes.")


def _report(nodes: NodePlacement, members: Members, cards: Mapping[int, Card], why: str) -> None:
    """Report all nodes so far; node 0 also reports the members, start and reason of the round."""
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
    node: Leader | Follower, process: "subprocess.Popen[bytes]", signals: "Signals"
) -> tuple[Report, Decision]:
    if isinstance(node, Leader):
        return Lead(node, process, signals).follow()
    ordered = False
    while process.poll() is None:
        time.sleep(STEP_S)
        signals.pass_on(process)
        if not ordered and node.is_ordered():
            ordered = True
            _kill(process)
    report = _own_report(process, signals, ordered=ordered)
    return report, node.close(report)


class Lead:
    """A round as followed by node 0."""

    def __init__(
        self, leader: Leader, process: "subprocess.Popen[bytes]", signals: "Signals"
    ) -> None:
        self.leader, self.process, self.signals = leader, process, signals
        self.ordered = self.grows = False
        self.ending_since: float | None = None

    def follow(self) -> tuple[Report, Decision]:
        """Watch until the round has ended on every remaining node, then decide."""
        while True:
            time.sleep(STEP_S)
            self.signals.pass_on(self.process)
            reports = self._reports()
            lost = [rank for rank in self.leader.silent() if rank not in reports]
            if not self.ordered and (lost or self._is_overdue(reports)):
                self.ordered = True
                self.leader.order_end()
                _kill(self.process)
            if all(rank in reports or rank in lost for rank in self.leader.members.ranks):
                break
            self._admit_newcomers()
        members, nodes = self.leader.members, self.leader.nodes
        decision = decide(members.ranks, reports, nodes.needed, grows=self.grows)
        self.leader.tell(decision, to=len(reports) - 1)
        return reports[0], decision

    def _reports(self) -> dict[int, Report]:
        reports = self.leader.reports()
        if self.process.poll() is not None:
            reports[0] = _own_report(self.process, self.signals, ordered=self.ordered)
        return reports

    def _is_overdue(self, reports: Mapping[int, Report]) -> bool:
        """Whether the round has failed on one node but does not end on the others."""
        failures = [report for report in reports.values() if report.code]
        if not failures:
            return False
        self.ending_since = self.ending_since or time.monotonic()
        stops = all(r.leaves or r.code == contract.EXIT_PREEMPTED for r in failures)
        grace = GRACE_OF_STOP_S if stops else GRACE_S
        return time.monotonic() - self.ending_since > grace

    def _admit_newcomers(self) -> None:
        """Ask the training to pause at the end of its epoch if a node waits to join."""
        if not self.grows and self.leader.newcomers():
            self.grows = True
            _say("Another node wants to join; it takes part after this epoch.")
            quietly("ask for a pause", reporting.ask_pause)


def _own_report(process: "subprocess.Popen[bytes]", signals: "Signals", *, ordered: bool) -> Report:
    code = launcher.exit_code(process.returncode)
    failure = parts.cause_of_failure(reporting.folder()) if reporting.is_recorded() else None
    return Report(
        code=code, leaves=bool(signals.numbers), ordered=ordered, failure=failure if code else None
    )


def _end(nodes: NodePlacement, decision: Decision, why: str) -> int:
    """
    Print and report how the job ended, and return its exit code.

    Raises:
        NodeLost: It ended because a node was lost.
    """
    lost = decision.code == NodeLost.exit_code and decision.failed is None
    if nodes.rank == 0 and (lost or decision.failure):
        loss = {"kind": "node lost", "what": why, "rank": None, "where": None}
        # Time 0: before the reports of the processes that noticed it.
        failure = {**(loss if lost else decision.failure or {}), "time": 0.0}
        quietly("report the failure", reporting.report, "failure-job", failure)
    if lost:
        raise NodeLost(f"{why}.", REMEDY_LOST)
    if decision.code and why:
        _say(f"{why}.")
    return decision.code


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """Kill the launcher and its descendants; a process waiting for a lost node ignores signals."""
    for pid in [process.pid, *_descendants(process.pid)]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _descendants(pid: int) -> list[int]:
    """Return all descendants of a process; torch's workers are in separate sessions."""
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            # The process name, in parentheses, may contain any character.
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            parents.setdefault(parent, []).append(int(path.parent.name))
    pids = [pid]
    for one in pids:
        pids += parents.get(one, [])
    return pids[1:]


class Signals:
    """The signals to this node, and how many of them were forwarded to the launcher."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self._passed = 0

    def note(self, number: int, frame: object) -> None:
        """Handle a signal: add it to the list."""
        self.numbers.append(number)

    def pass_on(self, process: "subprocess.Popen[bytes]") -> None:
        """Forward the signals received since the last call."""
        while self._passed < len(self.numbers):
            process.send_signal(self.numbers[self._passed])
            self._passed += 1


@contextlib.contextmanager
def _signals() -> Iterator[Signals]:
    signals = Signals()
    before = {number: signal.signal(number, signals.note) for number in SIGNALS}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _say(text: str) -> None:
    sys.stderr.write(f"samerun: {text}\n")
