"""
Note what a training made: time of the first batch, metrics per epoch, hashes.

``Learner.fit`` is extended rather than a callback left on the learner, so that an
exported learner does not need this package to be loaded.
"""

import functools
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from fastai.callback.core import Callback

from samerun import record
from samerun.train import reporting
from samerun.train.fingerprint import hash_history, hash_weights
from samerun.train.quiet import quietly

# Over all fits of the process: fine_tune has two, and they are one training.
_epochs: list[dict[str, float | None]] = []
_batch_seen = False


def install(learner: Any) -> None:
    """Extend ``Learner.fit`` of the module ``fastai.learner``; on the main process only."""
    if not reporting.is_recorded() or reporting.rank() != 0:
        return
    original = learner.Learner.fit

    @functools.wraps(original)
    def fit(self: Any, *args: Any, **kwargs: Any) -> Any:
        with self.added_cbs(Witness()):
            return original(self, *args, **kwargs)

    learner.Learner.fit = fit


class Witness(Callback):
    """Report to the record; after all other callbacks, and never in lr_find or get_preds."""

    order = 1000
    remove_on_fetch = True

    def before_batch(self) -> None:
        """Note when the first batch of the training stood ready."""
        global _batch_seen
        if not _batch_seen:
            _batch_seen = True
            quietly("note the first batch", report_first_batch)

    def after_epoch(self) -> None:
        """Keep the epoch's losses and metrics as Python floats."""
        if not hasattr(self.learn, "lr_finder"):
            quietly("note the metrics", self._keep)

    def after_fit(self) -> None:
        """Report metrics and hashes; the model is out of its distributed wrapper by now."""
        if not hasattr(self.learn, "lr_finder"):
            quietly("record the result", report_result, self.learn.model.state_dict())

    def _keep(self) -> None:
        recorder = self.learn.recorder
        if not recorder.values:
            return
        names = recorder.metric_names[1:]
        row = {n: _number(v) for n, v in zip(names, recorder.values[-1], strict=False)}
        _epochs.append(row)


def _number(value: Any) -> float | None:
    """Return *value* as a float, or None for what is no single number."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def report_first_batch() -> None:
    """Report the seconds from the record's creation (`invoke train`) to now."""
    created = datetime.fromisoformat(record.read(reporting.folder()).outcome.created)
    reporting.report("first_batch", {"seconds": round(time.time() - created.timestamp(), 3)})


def report_result(state: Mapping[str, Any]) -> None:
    """Report the last epoch's metrics, all epochs, and the hashes over both and *state*."""
    result = {
        "metrics": _epochs[-1] if _epochs else {},
        "epochs": _epochs,
        "metric_history_sha256": hash_history(_epochs),
        "weights_sha256": hash_weights(state),
    }
    reporting.report("result", result)
