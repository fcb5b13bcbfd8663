"""
The rendezvous of a job's nodes, through a store that node 0 serves at the rendezvous address.

Each node writes a card per round and sends heartbeats. Node 0 is the `Leader`: it determines
the members of a round, detects lost nodes, and decides what follows. All others are a
`Follower`. In each round, torch uses a separate port for the training.
"""

import socket
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from samerun.core import contract
from samerun.core.errors import NodeLost, NodesDisagree, RendezvousFailed
from samerun.core.placement import NodePlacement
from samerun.train.nodes.card import Card, disagreement, named
from samerun.train.nodes.decision import Decision, Report
from samerun.train.nodes.store import BEAT_S, SILENCE_S, Lost, Pulse, Store

# How long a job with enough nodes waits for more; the same as torch's last-call timeout.
LAST_CALL_S = 30.0
# Node 0 serves the store, so it waits until the others have read its last decision.
FAREWELL_S = 10.0
REMEDY_LOST = (
    "Resume from the last checkpoint with `invoke train --resume` on every node. --restarts "
    "does this automatically, and --nodes MIN:MAX continues with the remaining nodes."
)


@dataclass(frozen=True, kw_only=True)
class Members:
    """The nodes of one round and their cards, by rank; torch uses *port* of node 0."""

    number: int
    cards: dict[int, Card]
    port: int

    @property
    def ranks(self) -> tuple[int, ...]:
        """The ranks of the nodes, in order."""
        return tuple(sorted(self.cards))

    @property
    def threads(self) -> int:
        """Threads per process, the same on all nodes, because results depend on the number."""
        return min(card["threads"] for card in self.cards.values())

    def place(self, nodes: NodePlacement) -> NodePlacement:
        """Return the placement of a node among the members, for torch."""
        endpoint = f"{nodes.address[0]}:{self.port}"
        rank, count = self.ranks.index(nodes.rank), len(self.ranks)
        return NodePlacement(count=count, rank=rank, endpoint=endpoint, timeout_s=nodes.timeout_s)


def settle(
    cards: Mapping[int, Card], nodes: NodePlacement, before: Sequence[int], port: int
) -> dict[str, Any]:
    """
    Return the reply of node 0 to the nodes' cards: the members, and the refused nodes.

    *before* are the nodes of the previous round; a node that joins later and differs must not
    end their job.
    """
    late = set(cards) - set(before) if before else ()
    problems = {rank: disagreement({0: cards[0], rank: cards[rank]}) for rank in late}
    accepted = {rank: card for rank, card in cards.items() if not problems.get(rank)}
    missing = [n for n in range(nodes.count) if n not in cards]
    return {
        # JSON has only strings as keys.
        "cards": {str(rank): card for rank, card in accepted.items()},
        "port": port,
        "refused": {str(rank): problem for rank, problem in problems.items() if problem},
        "missing": missing if len(accepted) < nodes.needed else [],
        "problem": disagreement(accepted),
    }


def members(reply: Mapping[str, Any], number: int, nodes: NodePlacement) -> Members:
    """
    Return the nodes of a round from the reply of node 0.

    Raises:
        RendezvousFailed: Too few nodes joined in time.
        NodesDisagree: A node differs from node 0; the message lists the values.
    """
    if reply["missing"]:
        names = ", ".join(map(str, reply["missing"]))
        raise RendezvousFailed(
            f"Node{'s' if len(reply['missing']) > 1 else ''} {names} of {nodes.count} did not "
            f"join within {nodes.timeout_s} s.",
            f"Start each with --rdzv {nodes.endpoint} and its own --node-rank.",
        )
    problem = reply["problem"] or reply["refused"].get(str(nodes.rank))
    if problem:
        raise NodesDisagree(problem, "Start every node with the same image, command and data.")
    cards = {int(rank): card for rank, card in reply["cards"].items()}
    return Members(number=number, cards=cards, port=reply["port"])


class Leader:
    """Node 0: gathers the nodes, detects lost ones, and announces decisions."""

    def __init__(self, nodes: NodePlacement, card: Card) -> None:
        self.nodes, self.card = nodes, {**card, "id": uuid.uuid4().hex}
        self._store = Store(nodes, serves=True)
        self.members: Members = Members(number=-1, cards={}, port=0)
        self._expected: tuple[int, ...] = ()
        self._beats: dict[int, tuple[int, float]] = {}

    def gather(self) -> Members:
        """Wait for the nodes of the next round, and send them the list of members."""
        number = self.members.number + 1
        self._store.put(f"{number}/card/0", self.card)
        self._store.put("round", number)
        cards = {rank: self._store.get(f"{number}/card/{rank}") for rank in self._await(number)}
        reply = settle(cards, self.nodes, self._expected, _free_port(self.nodes.address[0]))
        self._store.put(f"{number}/members", reply)
        try:
            self.members = members(reply, number, self.nodes)
        except (RendezvousFailed, NodesDisagree):
            self._await_departure(number, len(cards) - 1)
            raise
        self._beats.clear()
        return self.members

    def _await(self, number: int) -> list[int]:
        """Wait until all expected nodes have written a card, or the time is over."""
        began = enough_since = time.monotonic()
        while True:
            present = [n for n in range(self.nodes.count) if self._store.has(f"{number}/card/{n}")]
            now = time.monotonic()
            enough = len(present) >= self.nodes.needed
            enough_since = enough_since if enough else now
            expected = set(self._expected or range(self.nodes.count))
            closed = enough and self.nodes.is_elastic and now - enough_since > LAST_CALL_S
            if expected <= set(present) or closed or now - began > self.nodes.timeout_s:
                return present
            time.sleep(0.05)

    def silent(self) -> list[int]:
        """Return the members without a heartbeat for `SILENCE_S`, or that have restarted."""
        newcomers = self.newcomers()
        return [r for r in self.members.ranks if r and (self._is_silent(r) or r in newcomers)]

    def _is_silent(self, rank: int) -> bool:
        identity, now = self.members.cards[rank]["id"], time.monotonic()
        count = self._store.count(f"beat/{identity}")
        before, since = self._beats.get(rank, (-1, now))
        self._beats[rank] = (count, since if count == before else now)
        return now - self._beats[rank][1] > SILENCE_S

    def newcomers(self) -> list[int]:
        """Return the nodes that wait for the next round."""
        key = f"{self.members.number + 1}/card"
        return [n for n in range(1, self.nodes.count) if self._store.has(f"{key}/{n}")]

    def reports(self) -> dict[int, Report]:
        """Return the reports of the other nodes on the end of this round."""
        number = self.members.number
        values = {n: self._store.get(f"{number}/report/{n}") for n in self.members.ranks}
        return {rank: Report(**value) for rank, value in values.items() if value}

    def order_end(self) -> None:
        """Order all other nodes to end this round at once."""
        self._store.put(f"{self.members.number}/order", "end")

    def tell(self, decision: Decision, *, to: int) -> None:
        """Announce the decision; at the end of the job, wait until *to* nodes have read it."""
        self._store.put(f"{self.members.number}/decision", asdict(decision))
        self._expected = decision.left
        if not decision.again:
            self._await_departure(self.members.number, to)

    def leave(self) -> None:
        """Do nothing: node 0 has no thread, and its store ends with the process."""

    def _await_departure(self, number: int, others: int) -> None:
        ends = time.monotonic() + FAREWELL_S
        while self._store.count(f"{number}/gone") < others and time.monotonic() < ends:
            time.sleep(0.05)


def _free_port(host: str) -> int:
    """Return an unused port on this machine, node 0."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


class Follower:
    """Every node except node 0: joins rounds, and receives decisions."""

    def __init__(self, nodes: NodePlacement, card: Card) -> None:
        self.nodes, self.card = nodes, {**card, "id": uuid.uuid4().hex}
        self._connect()
        self._number = -1

    def _connect(self) -> None:
        self._store = Store(self.nodes)
        self._pulse = Pulse(Store(self.nodes), self.card["id"])
        self._pulse.start()

    def gather(self) -> Members:
        """
        Wait for the next round of which this node is a member.

        Raises:
            RendezvousFailed, NodesDisagree: Node 0 refused this node or ended.
            NodeLost: Node 0 was lost after a round.
        """
        ends = time.monotonic() + self.nodes.timeout_s
        while True:
            try:
                return self._join()
            except Lost:
                if self._number >= 0:
                    raise NodeLost("Node 0 was lost.", REMEDY_LOST) from None
                if time.monotonic() > ends:
                    what = f"Node 0 at {self.nodes.endpoint} ended before all nodes joined."
                    raise RendezvousFailed(what, "Read the reason in the log of node 0.") from None
                # This may be the end of an earlier start of this job, which is restarting.
                time.sleep(1)
                self._connect()

    def _join(self) -> Members:
        number = self._number + 1 if self._number >= 0 else self._await("round")
        while True:
            self._write_card(number)
            reply = self._await(f"{number}/members")
            try:
                result = members(reply, number, self.nodes)
            except (RendezvousFailed, NodesDisagree):
                self._store.count(f"{number}/gone", 1)
                raise
            if result.cards.get(self.nodes.rank, {}).get("id") == self.card["id"]:
                self._number = number
                self._pulse.listen(f"{number}/order", f"{number}/decision")
                return result
            # Too late for this round, or the job has no node with this rank.
            problem = disagreement({0: result.cards[0], self.nodes.rank: self.card})
            if problem:
                raise NodesDisagree(problem, "Start every node with the same --nodes.")
            number += 1

    def _await(self, key: str) -> Any:
        self._pulse.listen(key)
        return self._hear(key)

    def _hear(self, key: str) -> Any:
        while (value := self._pulse.heard(key)) is None:
            time.sleep(0.05)
        return value

    def _write_card(self, number: int) -> None:
        key = f"{number}/card/{self.nodes.rank}"
        first = self._store.put_first(key, self.card)
        if first["id"] == self.card["id"] or self._store.has(f"{number}/members"):
            return
        if self._is_alive(first["id"]):
            raise RendezvousFailed(
                f"There already is a node {self.nodes.rank}: {first['host']}.",
                "Give every node a different --node-rank, from 0 to one less than --nodes.",
            )
        self._store.put(key, self.card)

    def _is_alive(self, identity: str) -> bool:
        before = self._store.count(f"beat/{identity}")
        time.sleep(12 * BEAT_S)
        return self._store.count(f"beat/{identity}") != before

    def is_ordered(self) -> bool:
        """Whether node 0 ordered the end of this round, or is lost."""
        try:
            return bool(self._pulse.heard(f"{self._number}/order"))
        except Lost:
            return True

    def close(self, report: Report) -> Decision:
        """Send the report on the round, and return the decision."""
        try:
            self._store.put(f"{self._number}/report/{self.nodes.rank}", asdict(report))
            if report.leaves and report.code in (0, contract.EXIT_PREEMPTED):
                # This machine may have only seconds, and the others may take minutes to end.
                self._store.count(f"{self._number}/gone", 1)
                return Decision(code=report.code)
            decision = _decision(self._hear(f"{self._number}/decision"))
        except Lost:
            return Decision(code=NodeLost.exit_code, why="{0} was lost")
        if not decision.again or report.leaves:
            self._store.count(f"{self._number}/gone", 1)
        return decision

    def leave(self) -> None:
        """Beat no more; before the process ends."""
        self._pulse.end()


def _decision(fields: Mapping[str, Any]) -> Decision:
    return Decision(**{**fields, "left": tuple(fields["left"])})


def name_all(why: str, cards: Mapping[int, Card]) -> str:
    """Return *why* of a decision with the nodes' names filled in."""
    ranks = range(max(cards, default=0) + 1)
    return why.format(*(named(rank, cards) for rank in ranks))
