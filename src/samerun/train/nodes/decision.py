"""
What follows when a round of training on several nodes is over: pure decisions.

A round is what torch's launchers train between two changes of the nodes. It ends by its
own end, by a failure, because a node was asked to stop, or because one was lost.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from samerun.core import contract
from samerun.core.errors import NodeLost

# What a process says whose partner went away: true, and not the reason.
FOLLOWS = re.compile(
    r"connection (was )?(closed|reset|refused)|broken pipe|nccl|gloo|socket ?timeout|DistBackend",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True)
class Report:
    """
    How a round ended on one node: with *code*, as a shell has it.

    *leaves*: a signal asked this very node to stop. *ordered*: node 0 ended the round here.
    """

    code: int
    leaves: bool = False
    ordered: bool = False
    failure: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Decision:
    """
    What node 0 decides: another round with the nodes *left*, or the end with *code*.

    *failed* is the node whose failure it was, *why* the reason in words that begin with a
    node's name, ``{1}``.
    """

    left: tuple[int, ...] = ()
    code: int = 0
    why: str = ""
    failed: int | None = None
    failure: dict[str, Any] | None = field(default=None)

    @property
    def again(self) -> bool:
        """Whether another round follows."""
        return bool(self.left)


def decide(
    members: Sequence[int], words: Mapping[int, Report], least: int, *, grows: bool = False
) -> Decision:
    """
    Return what follows.

    Args:
        members: Ranks of the nodes of the round; *words* lacks those that were lost.
        words: What each node that is still there said.
        least: So many nodes, node 0 among them, can go on.
        grows: The round was stopped to take a node in.
    """
    lost = [rank for rank in members if rank not in words]
    leaving = [rank for rank in members if rank in words and words[rank].leaves]
    left = tuple(rank for rank in members if rank not in lost and rank not in leaving)
    if _is_through(words):
        return Decision()
    can_go_on = len(left) >= least and 0 in left
    why = f"{_listed(lost)} lost" if lost else f"{_listed(leaving)} asked to stop"
    if (lost or leaving) and can_go_on:
        # The code is for those that leave.
        return Decision(left=left, code=_code_of_stop(words), why=why)
    if lost:
        return Decision(code=NodeLost.exit_code, why=why)
    if leaving:
        return Decision(code=_code_of_stop(words), why=why)
    if grows and all(word.code == contract.EXIT_PREEMPTED for word in words.values()):
        return Decision(left=left)
    return _failure(words)


def _is_through(words: Mapping[int, Report]) -> bool:
    """Whether rank 0 is through: then all had a part in every step, whatever came after."""
    return 0 in words and all(w.code == 0 or (r and w.leaves) for r, w in words.items())


def _listed(ranks: Sequence[int]) -> str:
    names = ", ".join(f"{{{rank}}}" for rank in ranks)
    return f"{names} {'were' if len(ranks) > 1 else 'was'}"


def _code_of_stop(words: Mapping[int, Report]) -> int:
    """Return 75 where a checkpoint was written; else what the node that was stopped said."""
    codes = [word.code for word in words.values()]
    if contract.EXIT_PREEMPTED in codes:
        return contract.EXIT_PREEMPTED
    return next((word.code for word in words.values() if word.leaves), 0)


def _failure(words: Mapping[int, Report]) -> Decision:
    """Return the end of a training that failed by itself, with the code of the first failure."""
    failed = {r: w for r, w in words.items() if w.code and not w.ordered} or dict(words)
    rank = min(failed, key=lambda rank: (_follows(failed[rank]), _time(failed[rank]), rank))
    word = failed[rank]
    why = f"{{{rank}}} failed first, with exit code {word.code}"
    return Decision(code=word.code, why=why, failed=rank, failure=word.failure)


def _follows(word: Report) -> bool:
    """Whether a node failed because another did."""
    return bool(FOLLOWS.search(str((word.failure or {}).get("what", ""))))


def _time(word: Report) -> float:
    time = (word.failure or {}).get("time")
    return time if isinstance(time, float) else float("inf")
