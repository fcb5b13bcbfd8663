"""
The image's entry: ``python -m samerun.train [--procs N] [--seed S] TARGET [ARGUMENTS]``.

TARGET is a recipe's name or the path of a script. One process replaces this one;
several are started by torch's launcher, which this process then watches.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from samerun import contract
from samerun.errors import SamerunError
from samerun.options import find_recipe, read_recipe
from samerun.train import determinism, nodes, recipes, selfmade


def main(argv: Sequence[str]) -> int:
    """Check the target's arguments before anything heavy is loaded, then start it."""
    parser = argparse.ArgumentParser(prog="samerun.train", allow_abbrev=False)
    parser.add_argument("--procs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=contract.DEFAULT_SEED)
    parser.add_argument("target")
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    options = parser.parse_args(list(argv))
    _check(options.target, options.arguments)
    machines = nodes.from_environment()
    start = selfmade.Start(
        argv=tuple(argv),
        target=options.target,
        arguments=tuple(options.arguments),
        procs=options.procs,
        seed=options.seed,
        nodes=machines,
    )
    if selfmade.is_needed():
        return selfmade.run(start)
    _prepare(options.procs, options.seed)
    worker = ["-m", "samerun.train.worker", str(options.seed), options.target, *options.arguments]
    if options.procs == machines.count == 1:
        _replace(worker)
    from samerun.train.launcher import launch

    return launch(options.procs, worker, machines)


def _check(target: str, arguments: Sequence[str]) -> None:
    if not target.endswith(".py"):
        read_recipe(find_recipe(recipes.FOLDER, target)).parse(arguments)


def _prepare(procs: int, seed: int) -> None:
    """Make the folders and set the variables that every worker inherits."""
    Path(os.environ.get("HOME", "/tmp/home")).mkdir(parents=True, exist_ok=True)
    determinism.set_environment()
    os.environ[contract.ENV_SEED] = str(seed)
    # Explicit, because results depend on it; torch's launcher would set 1 in silence.
    threads = max(1, len(os.sched_getaffinity(0)) // procs)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    if not Path("/dev/nvidiactl").exists():
        # Else accelerate finds no device, and each rank trains on its own without a word.
        os.environ.setdefault("ACCELERATE_USE_CPU", "true")


def _replace(arguments: Sequence[str]) -> NoReturn:
    os.execv(sys.executable, [sys.executable, "-u", *arguments])


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except SamerunError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)
