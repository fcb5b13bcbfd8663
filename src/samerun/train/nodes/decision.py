"""
The decision after a round of training on several nodes, as pure functions.

A round is the training between two changes of the nodes. It ends because the training is
finished or failed, because a node received a signal to stop, or because one was lost.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from samerun.core import contract, first_failure
from samerun.core.errors import NodeLost


@dataclass(frozen=True, kw_only=True)
class Report:
    """
    How a round ended on one node, with exit code *code*.

    *leaves*: this node received a signal to stop. *ordered*: node 0 ended the round here.
    """

    code: int
    leaves: bool = False
    ordered: bool = False
    failure: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Decision:
    """
    The decision of node 0: another round with the nodes *left*, or the end with *code*.

    *failed* is the node that failed first. *why* is the reason, starting with the nodes as
    placeholders, ``{1}``.
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
    members: Sequence[int], reports: Mapping[int, Report], least: int, *, grows: bool = False
) -> Decision:
    """
    Return the decision.

    Args:
        members: Ranks of the nodes of the round; lost ones have no report.
        reports: The report of each remaining node.
        least: The job can continue with so many nodes, including node 0.
        grows: The round was stopped to add a node.
    """
    lost = [rank for rank in members if rank not in reports]
    leaving = [rank for rank in members if rank in reports and reports[rank].leaves]
    left = tuple(rank for rank in members if rank not in lost and rank not in leaving)
    if _is_finished(reports):
        return Decision()
    can_continue = len(left) >= least and 0 in left
    why = f"{_listed(lost)} lost" if lost else f"{_listed(leaving)} asked to stop"
    if (lost or leaving) and can_continue:
        # The code is for the nodes that leave.
        return Decision(left=left, code=_code_of_stop(reports), why=why)
    if lost:
        return Decision(code=NodeLost.exit_code, why=why)
    if leaving:
        return Decision(code=_code_of_stop(reports), why=why)
    if grows and all(report.code == contract.EXIT_PREEMPTED for report in reports.values()):
        return Decision(left=left)
    return _failure(reports)


def _is_finished(reports: Mapping[int, Report]) -> bool:
    """Whether rank 0 has finished: then all nodes took part in every step."""
    return 0 in reports and all(w.code == 0 or (r and w.leaves) for r, w in reports.items())


def _listed(ranks: Sequence[int]) -> str:
    names = ", ".join(f"{{{rank}}}" for rank in ranks)
    return f"{names} {'were' if len(ranks) > 1 else 'was'}"


def _code_of_stop(reports: Mapping[int, Report]) -> int:
    """Return 75 if a checkpoint was written, else the code of the stopped node."""
    codes = [report.code for report in reports.values()]
    if contract.EXIT_PREEMPTED in codes:
        return contract.EXIT_PREEMPTED
    return next((report.code for report in reports.values() if report.leaves), 0)


def _failure(reports: Mapping[int, Report]) -> Decision:
    """Return the decision for a failed training, with the code of the first failure."""
    failed = {r: w for r, w in reports.items() if w.code and not w.ordered} or dict(reports)
    reported = {rank: failed[rank].failure or {} for rank in failed}
    rank = min(
        failed,
        key=lambda rank: (
            first_failure.is_consequence(reported[rank]),
            first_failure.time_of(reported[rank]),
            rank,
        ),
    )
    report = failed[rank]
    why = f"{{{rank}}} failed first, with exit code {report.code}"
    return Decision(code=report.code, why=why, failed=rank, failure=report.failure)
