"""
The image's entrypoint: ``python -m samerun.train [OPTIONS] TARGET [ARGUMENTS]``.

TARGET is a recipe's name or the path of a script. A single training process replaces this
one; several are started by torch's launcher, which this process then watches. With
``--nodes`` the nodes first meet, and start only if they agree.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from samerun.core import contract, hardware
from samerun.core.errors import SamerunError
from samerun.core.placement import DEFAULT_TIMEOUT_S, NodePlacement
from samerun.core.recipe_options import find_recipe, read_recipe
from samerun.train import determinism, devices, recipes
from samerun.train.nodes import card, interface
from samerun.train.report import reporting
from samerun.train.standalone import cluster_env, record


def main(argv: Sequence[str]) -> int:
    """Check the target's arguments before loading a framework, then start it."""
    parser = argparse.ArgumentParser(prog="samerun.train", allow_abbrev=False)
    parser.add_argument("--procs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=contract.DEFAULT_SEED)
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("--least-nodes", type=int, default=0, help="continue with at least so many")
    parser.add_argument("--node-rank", type=int, default=0)
    parser.add_argument("--rdzv", default="", help="HOST:PORT of node 0")
    parser.add_argument("--rdzv-timeout", type=int, default=DEFAULT_TIMEOUT_S)
    parser.add_argument("target")
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    options = parser.parse_args(list(argv))
    _check(options.target, options.arguments)
    place = _place(options)
    start = record.Start(
        argv=tuple(argv),
        target=options.target,
        arguments=tuple(options.arguments),
        procs=options.procs,
        seed=options.seed,
        nodes=place,
    )
    if record.is_needed():
        return record.run(start)
    _prepare(options.seed)
    if options.target.startswith(f"{contract.CODE}/"):
        os.environ.setdefault(contract.ENV_READS_FROM, contract.CODE)
    threads = hardware.threads_per_process(options.procs)
    worker = ["-m", "samerun.train.worker", str(options.seed), options.target, *options.arguments]
    if place.count > 1:
        return _train_on_nodes(place, options, threads, worker)
    reporting.forget_end()
    # Explicit, because results depend on it; torch's launcher would set 1.
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    if options.procs == 1:
        _replace(worker)
    from samerun.train.launcher import launch

    return launch(options.procs, worker)


def _place(options: argparse.Namespace) -> NodePlacement:
    """Return this node's placement: from the options, else from a cluster's environment."""
    if options.nodes == 1:
        return cluster_env.from_environment()
    return NodePlacement(
        count=options.nodes,
        least=options.least_nodes or None,
        rank=options.node_rank,
        endpoint=options.rdzv,
        timeout_s=options.rdzv_timeout,
    )


def _train_on_nodes(
    place: NodePlacement, options: argparse.Namespace, threads: int, worker: Sequence[str]
) -> int:
    """Meet the other nodes, and train with them."""
    from samerun.train.nodes import rounds

    command = [options.target, *options.arguments]
    mine = card.card(command, place=place, seed=options.seed, procs=options.procs, threads=threads)
    interface.set_interface(place)
    return rounds.run(place, mine, options.procs, worker)


def _check(target: str, arguments: Sequence[str]) -> None:
    if not target.endswith(".py"):
        read_recipe(find_recipe(recipes.FOLDER, target)).parse(arguments)


def _prepare(seed: int) -> None:
    """Create the home folder and set the variables that every worker inherits."""
    Path(os.environ.get("HOME", "/tmp/home")).mkdir(parents=True, exist_ok=True)
    determinism.set_environment()
    os.environ[contract.ENV_SEED] = str(seed)
    devices.hide_if_none_requested()


def _replace(arguments: Sequence[str]) -> NoReturn:
    os.execv(sys.executable, [sys.executable, "-Pu", *arguments])


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except SamerunError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)
