"""
Loaded by every Python process in the image (``samerun.pth``), before any other code.

It must cost nothing if no framework is loaded, so it only registers extensions that are
installed *after* an import: sign W&B runs, repair fastai's distributed training on the CPU,
record results. ``fastai.callback.wandb`` is replaced by our callback, so that scripts written
for it run unchanged.
"""

import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from typing import Any

# The order matters: a checkpoint holds what `observe` has recorded, so its wrapper is outside.
AFTER_IMPORT = {
    "wandb": (
        "samerun.train.hooks.wandb_sign",
        "samerun.train.hooks.wandb_journal",
        "samerun.train.hooks.wandb_advice",
    ),
    "fastai.data.load": ("samerun.train.checkpoint.workers",),
    # Schedules import the learner, and not the other way: a script may use no schedule.
    "fastai.learner": (
        "samerun.train.hooks.observe",
        "samerun.train.hooks.finite",
        "samerun.train.hooks.operations",
        "samerun.train.checkpoint.install",
        "samerun.train.hooks.beside_data",
    ),
    "fastai.callback.schedule": ("samerun.train.hooks.lr_find",),
    "fastai.callback.progress": ("samerun.train.hooks.beside_data",),
    "fastai.text.core": ("samerun.train.hooks.beside_data",),
    "fastai.text.learner": ("samerun.train.hooks.beside_data",),
    "fastprogress.fastprogress": ("samerun.train.hooks.progress",),
    "fastai.distributed": ("samerun.train.hooks.ddp",),
    "torch.distributed.distributed_c10d": ("samerun.train.hooks.timeouts",),
    "samerun.callback.stream.bulk": ("samerun.train.hooks.wandb_rows",),
}
# These import scikit-learn and scipy.stats, which takes long, for functions that few use.
LATE = ("fastai.data.transforms", "fastai.interpret", "fastai.metrics")
ALIASES = {"fastai.callback.wandb": "samerun.callback.wandb"}


class _Alias:
    """Loads another module under this name; the import system then returns that one."""

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: Any) -> None:
        sys.modules[module.__name__] = import_module(ALIASES[module.__name__])


class _Finder:
    """Wraps the loaders of the modules in `AFTER_IMPORT`, and of no others."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name in ALIASES:
            return ModuleSpec(name, _Alias())  # type: ignore[arg-type]
        if name not in AFTER_IMPORT and name not in LATE:
            return None
        spec = PathFinder.find_spec(name, path)
        if spec is not None and spec.loader is not None:
            _extend(spec.loader, AFTER_IMPORT.get(name, ()), is_late=name in LATE)
        return spec


def _stand_ins() -> Any:
    """Return the context in which a module of `LATE` is imported."""
    try:
        from samerun.train.hooks import late_imports
    except ImportError:  # Such as in a script that hides samerun.
        return nullcontext()
    return late_imports.stand_ins()


def _extend(loader: Any, installers: Sequence[str], *, is_late: bool) -> None:
    original = loader.exec_module

    def exec_module(module: Any) -> None:
        with _stand_ins() if is_late else nullcontext():
            original(module)
        for installer in installers:
            try:
                import_module(installer).install(module)
            except Exception as error:  # noqa: BLE001 - the training matters more than the record
                name = module.__name__
                sys.stderr.write(f"samerun: {name} is used without {installer}: {error!r}\n")

    loader.exec_module = exec_module


sys.meta_path.insert(0, _Finder)
# Before any other module imports these functions.
if os.environ.get("SAMERUN_RECORD") and os.environ.get("SAMERUN_FAST") != "1":
    from samerun.train import listing

    listing.install()
# Processes that a script starts read its project as the script does.
if os.environ.get("SAMERUN_READS_FROM"):
    from samerun.train.hooks import relative_reads

    relative_reads.install()
