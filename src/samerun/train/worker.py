"""
One training process: ``python -m samerun.train.worker SEED TARGET [ARGUMENTS]``.

Started by the entrypoint for a single process, or by torch's launcher for each process.
"""

import importlib
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

from samerun.core import contract
from samerun.core.recipe_options import find_recipe, read_recipe
from samerun.train import blocked, determinism, devices, process_groups, recipes, session
from samerun.train.hooks import operations
from samerun.train.report import environment, failures, reporting
from samerun.train.report.quiet import quietly


def main(argv: Sequence[str]) -> None:
    """Seed, report the environment, then run the recipe or the script."""
    seed, target, arguments = int(argv[0]), argv[1], list(argv[2:])
    with process_groups.left(), failures.told(), process_groups.destroyed():
        _begin(seed)
        if target.endswith(".py"):
            run_script(Path(target), arguments)
        else:
            run_recipe(target, arguments, seed)


def run_recipe(name: str, arguments: Sequence[str], seed: int) -> None:
    """Call the recipe's ``train`` with its options."""
    config = read_recipe(find_recipe(recipes.FOLDER, name)).parse(arguments)
    if reporting.rank() == 0:
        quietly("record the configuration", reporting.report, "config", {"recipe": name, **config})
    module = importlib.import_module(f"samerun.train.recipes.{name}")
    module.train(session.current(name, config, seed), **config)


def run_script(path: Path, arguments: Sequence[str]) -> None:
    """Run a user's script as Python would, with its folder first on the path, and ``argv``."""
    sys.argv = [str(path), *arguments]
    # -P left out the working directory, which is the run's own output.
    sys.path.insert(0, str(path.parent))
    if path.is_relative_to(contract.CODE):
        # As an editable installation of the project would, flat or with src/: last.
        sys.path += [contract.CODE, f"{contract.CODE}/src"]
    runpy.run_path(str(path), run_name="__main__")


def _begin(seed: int) -> None:
    """Report the start, then choose seed and device; the environment is that of the device."""
    if reporting.rank() == 0:
        quietly("report the start", reporting.started)
    determinism.seed_everything(seed)
    operations.listen()
    devices.choose()
    blocked.watch()
    if reporting.rank() == 0:
        quietly("describe the environment", _report_environment)


def _report_environment() -> None:
    reporting.report("environment", environment.describe(devices.used()))


if __name__ == "__main__":
    main(sys.argv[1:])
