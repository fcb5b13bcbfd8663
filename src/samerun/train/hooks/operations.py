"""
Which operations torch warned of, because their results can differ from run to run.

torch warns at each call, with ``warn_only=True``. Each name is printed once, and is in the record,
so that a verdict can name it.

``adaptive_max_pool2d`` to size 1, which is in the head of every ``vision_learner``, is on torch's
list too. But it adds nothing twice: 20 backward passes with ties gave the same bits on an H200
(``tests/gpu/test_operations.py``). So it is not reported where all of a model's layers of this kind
have that size.
"""

import functools
import re
import sys
import warnings
import weakref
from collections.abc import Callable
from typing import Any

from samerun.core import contract
from samerun.train.report import reporting
from samerun.train.report.quiet import quietly

_WARNING = re.compile(r"^(\S+) does not have a deterministic implementation")
_POOLING = "adaptive_max_pool2d_backward_cuda"
_ONE = (1, (1, 1), [1, 1])
_seen: list[str] = []
_models: "weakref.WeakSet[Any]" = weakref.WeakSet()


def listen() -> None:
    """Take these warnings out of all others, from now on."""
    # Python's default shows a warning once for each line of code, so that names would be missed.
    warnings.filterwarnings("always", message=_WARNING.pattern[1:])
    warnings.showwarning = _showing(warnings.showwarning)


def install(learner: Any) -> None:
    """Remember the models that ``Learner.fit`` of the module ``fastai.learner`` trains."""
    original = learner.Learner.fit

    @functools.wraps(original)
    def fit(self: Any, *args: Any, **kwargs: Any) -> Any:
        quietly("remember the model", _models.add, self.model)
        return original(self, *args, **kwargs)

    learner.Learner.fit = fit


def _showing(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def showwarning(message: Any, *args: Any, **kwargs: Any) -> None:
        found = _WARNING.match(str(message))
        if found is None:
            original(message, *args, **kwargs)
        elif found[1] not in _seen and not (found[1] == _POOLING and pools_to_one()):
            _seen.append(found[1])
            quietly("report an operation", _report, found[1])

    return showwarning


def _report(name: str) -> None:
    if reporting.rank() == 0:
        sys.stderr.write(
            f"samerun: {name} has no deterministic implementation: another run can differ.\n"
        )
        reporting.report(contract.NONDETERMINISTIC, {"operations": _seen})


def pools_to_one() -> bool:
    """Whether all layers of this kind, of which there is one at least, have the size 1."""
    sizes = [
        module.output_size
        for model in list(_models)
        for module in model.modules()
        if type(module).__name__ == "AdaptiveMaxPool2d"
    ]
    return bool(sizes) and all(size in _ONE for size in sizes)
