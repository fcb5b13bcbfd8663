"""
Where the nodes of a job meet: a store that node 0 serves at the rendezvous' address.

Each node lays down a card per round and beats while it lives. Node 0 has the `Leader`: it
says who takes part, notices who is lost, and decides what follows. All others are a
`Follower`. torch trains in each round, at a port of its own.
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

# How long a job that has enough nodes waits for the others; torch's last call too.
LAST_CALL_S = 30.0
# Node 0 serves the store: it stays until the others have read its last word.
FAREWELL_S = 10.0
REMEDY_LOST = (
    "Go on from the last checkpoint with `invoke train --resume` on every node; --restarts does "
    "so by itself, and --nodes MIN:MAX goes on with the nodes that are left."
)


@dataclass(frozen=True, kw_only=True)
class Members:
    """The nodes of one round, by rank, each with its card; torch meets at *port* of node 0."""

    number: int
    cards: dict[int, Card]
    port: int

    @property
    def ranks(self) -> tuple[int, ...]:
        """The ranks of the nodes, in order."""
        return tuple(sorted(self.cards))

    @property
    def threads(self) -> int:
        """Threads per process that all nodes have: their number decides results."""
        return min(card["threads"] for card in self.cards.values())

    def place(self, nodes: NodePlacement) -> NodePlacement:
        """Return the place of a node among these, for torch."""
        endpoint = f"{nodes.address[0]}:{self.port}"
        rank, count = self.ranks.index(nodes.rank), len(self.ranks)
        return NodePlacement(count=count, rank=rank, endpoint=endpoint, timeout_s=nodes.timeout_s)


def settle(
    cards: Mapping[int, Card], nodes: NodePlacement, before: Sequence[int], port: int
) -> dict[str, Any]:
    """
    Return what node 0 says of those that came: who takes part, and who is refused.

    *before* are the nodes of the round before this one; a node that comes later and
    differs must not end their job.
    """
    late = set(cards) - set(before) if before else ()
    problems = {rank: disagreement({0: cards[0], rank: cards[rank]}) for rank in late}
    taken = {rank: card for rank, card in cards.items() if not problems.get(rank)}
    missing = [n for n in range(nodes.count) if n not in cards]
    return {
        # Keys as JSON has them.
        "cards": {str(rank): card for rank, card in taken.items()},
        "port": port,
        "refused": {str(rank): problem for rank, problem in problems.items() if problem},
        "missing": missing if len(taken) < nodes.needed else [],
        "problem": disagreement(taken),
    }


def members(told: Mapping[str, Any], number: int, nodes: NodePlacement) -> Members:
    """
    Return the nodes of a round from what node 0 said.

    Raises:
        RendezvousFailed: Too few came in time.
        NodesDisagree: With who differs in what.
    """
    if told["missing"]:
        names = ", ".join(map(str, told["missing"]))
        raise RendezvousFailed(
            f"Node{'s' if len(told['missing']) > 1 else ''} {names} of {nodes.count} did not "
            f"come within {nodes.timeout_s} s.",
            f"Start each with --rdzv {nodes.endpoint} and its own --node-rank.",
        )
    problem = told["problem"] or told["refused"].get(str(nodes.rank))
    if problem:
        raise NodesDisagree(problem, "Start every node with the same image, command and data.")
    cards = {int(rank): card for rank, card in told["cards"].items()}
    return Members(number=number, cards=cards, port=told["port"])


class Leader:
    """Node 0: calls the round, watches who lives, and decides."""

    def __init__(self, nodes: NodePlacement, card: Card) -> None:
        self.nodes, self.card = nodes, {**card, "id": uuid.uuid4().hex}
        self._store = Store(nodes, serves=True)
        self.members: Members = Members(number=-1, cards={}, port=0)
        self._expected: tuple[int, ...] = ()
        self._beats: dict[int, tuple[int, float]] = {}

    def gather(self) -> Members:
        """Wait for the nodes of the next round, and tell them who they are."""
        number = self.members.number + 1
        self._store.put(f"{number}/card/0", self.card)
        self._store.put("round", number)
        cards = {rank: self._store.get(f"{number}/card/{rank}") for rank in self._await(number)}
        told = settle(cards, self.nodes, self._expected, _free_port(self.nodes.address[0]))
        self._store.put(f"{number}/members", told)
        try:
            self.members = members(told, number, self.nodes)
        except (RendezvousFailed, NodesDisagree):
            self._part(number, len(cards) - 1)
            raise
        self._beats.clear()
        return self.members

    def _await(self, number: int) -> list[int]:
        """Wait until all that are expected have laid down a card, or the time is over."""
        began = enough_since = time.monotonic()
        while True:
            there = [n for n in range(self.nodes.count) if self._store.has(f"{number}/card/{n}")]
            now = time.monotonic()
            enough = len(there) >= self.nodes.needed
            enough_since = enough_since if enough else now
            awaited = set(self._expected or range(self.nodes.count))
            called = enough and self.nodes.is_elastic and now - enough_since > LAST_CALL_S
            if awaited <= set(there) or called or now - began > self.nodes.timeout_s:
                return there
            time.sleep(0.05)

    def silent(self) -> list[int]:
        """Return the members that have not beaten for `SILENCE_S`, or came again as others."""
        came = self.newcomers()
        return [r for r in self.members.ranks if r and (self._is_silent(r) or r in came)]

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

    def words(self) -> dict[int, Report]:
        """Return what the others have said of the end of this round."""
        found = {n: self._store.get(f"{self.members.number}/word/{n}") for n in self.members.ranks}
        return {rank: Report(**told) for rank, told in found.items() if told}

    def order_end(self) -> None:
        """Tell all others to end their training of this round at once."""
        self._store.put(f"{self.members.number}/order", "end")

    def tell(self, verdict: Decision, *, to: int) -> None:
        """Say what follows; at the end of the job, stay until *to* nodes have read it."""
        self._store.put(f"{self.members.number}/verdict", asdict(verdict))
        self._expected = verdict.left
        if not verdict.again:
            self._part(self.members.number, to)

    def leave(self) -> None:
        """Do nothing: node 0 has no thread, and its store ends with the process."""

    def _part(self, number: int, others: int) -> None:
        ends = time.monotonic() + FAREWELL_S
        while self._store.count(f"{number}/gone") < others and time.monotonic() < ends:
            time.sleep(0.05)


def _free_port(host: str) -> int:
    """Return a port that nobody uses on this machine, node 0."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


class Follower:
    """Every node but node 0: takes part, and hears what follows."""

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
        Wait for the next round that this node is part of.

        Raises:
            RendezvousFailed, NodesDisagree: As node 0 says, or it went away.
        """
        ends = time.monotonic() + self.nodes.timeout_s
        while True:
            try:
                return self._join()
            except Lost:
                if self._number >= 0:
                    raise NodeLost("Node 0 was lost.", REMEDY_LOST) from None
                if time.monotonic() > ends:
                    what = f"Node 0 at {self.nodes.endpoint} ended before all nodes had come."
                    raise RendezvousFailed(what, "Its own log says why.") from None
                # Perhaps the end of an earlier start of this job, which starts again.
                time.sleep(1)
                self._connect()

    def _join(self) -> Members:
        number = self._number + 1 if self._number >= 0 else self._await("round")
        while True:
            self._lay_down(number)
            told = self._await(f"{number}/members")
            try:
                found = members(told, number, self.nodes)
            except (RendezvousFailed, NodesDisagree):
                self._store.count(f"{number}/gone", 1)
                raise
            if found.cards.get(self.nodes.rank, {}).get("id") == self.card["id"]:
                self._number = number
                self._pulse.listen(f"{number}/order", f"{number}/verdict")
                return found
            # Too late for this one; or the job has no such place at all.
            problem = disagreement({0: found.cards[0], self.nodes.rank: self.card})
            if problem:
                raise NodesDisagree(problem, "Start every node with the same --nodes.")
            number += 1

    def _await(self, key: str) -> Any:
        self._pulse.listen(key)
        return self._hear(key)

    def _hear(self, key: str) -> Any:
        while (found := self._pulse.heard(key)) is None:
            time.sleep(0.05)
        return found

    def _lay_down(self, number: int) -> None:
        key = f"{number}/card/{self.nodes.rank}"
        there = self._store.put_first(key, self.card)
        if there["id"] == self.card["id"] or self._store.has(f"{number}/members"):
            return
        if self._is_alive(there["id"]):
            raise RendezvousFailed(
                f"There is a node {self.nodes.rank} already: {there['host']}.",
                "Give every node its own --node-rank, 0 to one less than --nodes.",
            )
        self._store.put(key, self.card)

    def _is_alive(self, identity: str) -> bool:
        before = self._store.count(f"beat/{identity}")
        time.sleep(12 * BEAT_S)
        return self._store.count(f"beat/{identity}") != before

    def is_ordered(self) -> bool:
        """Whether node 0 wants this round's training ended; where it is gone that is so too."""
        try:
            return bool(self._pulse.heard(f"{self._number}/order"))
        except Lost:
            return True

    def close(self, word: Report) -> Decision:
        """Say how the round ended here, and return what follows."""
        try:
            self._store.put(f"{self._number}/word/{self.nodes.rank}", asdict(word))
            if word.leaves and word.code in (0, contract.EXIT_PREEMPTED):
                # Its machine may have seconds; the others may take minutes to come to an end.
                self._store.count(f"{self._number}/gone", 1)
                return Decision(code=word.code)
            verdict = _verdict(self._hear(f"{self._number}/verdict"))
        except Lost:
            return Decision(code=NodeLost.exit_code, why="{0} was lost")
        if not verdict.again or word.leaves:
            self._store.count(f"{self._number}/gone", 1)
        return verdict

    def leave(self) -> None:
        """Beat no more; before the process ends."""
        self._pulse.end()


def _verdict(told: Mapping[str, Any]) -> Decision:
    return Decision(**{**told, "left": tuple(told["left"])})


def name_all(why: str, cards: Mapping[int, Card]) -> str:
    """Return *why* of a verdict with the nodes' names in it."""
    ranks = range(max(cards, default=0) + 1)
    return why.format(*(named(rank, cards) for rank in ranks))
