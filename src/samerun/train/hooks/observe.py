"""
Record a training's results: time of the first batch, metrics per epoch, losses, hashes.

``Learner.fit`` is extended instead of adding a callback to the learner, so that an exported
learner can be loaded without this package.
"""

import functools
import json
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import torch
from fastai.callback.core import Callback
from fastai.torch_core import get_model

from samerun.core import contract, files, record
from samerun.train.hooks.tensor_hash import hash_history, hash_tensor, hash_weights
from samerun.train.report import reporting
from samerun.train.report.quiet import quietly

# Over all fits of the process: the two fits of fine_tune are one training.
_epochs: list[dict[str, float | None]] = []
_fits = 0
_batch_seen = False
# Losses of the epoch's steps so far; tensors stay on their device until the epoch ends.
_losses: list[Any] = []


def install(learner: Any) -> None:
    """Extend ``Learner.fit`` of the module ``fastai.learner``, in the main process only."""
    if not reporting.is_recorded() or reporting.rank() != 0:
        return
    original = learner.Learner.fit

    @functools.wraps(original)
    def fit(self: Any, *args: Any, **kwargs: Any) -> Any:
        with self.added_cbs(Witness()):
            return original(self, *args, **kwargs)

    learner.Learner.fit = fit


class Witness(Callback):
    """Reports to the record; runs after all other callbacks, not in lr_find or get_preds."""

    order = 1000
    remove_on_fetch = True

    def before_fit(self) -> None:
        """Count the fit."""
        global _fits
        if not hasattr(self.learn, "lr_finder"):
            _fits += 1
            _losses.clear()
            self._began = time.monotonic()
            quietly("report the progress", self._report_progress)

    def before_batch(self) -> None:
        """Report the time at which the first batch of the training was ready."""
        global _batch_seen
        if not _batch_seen:
            _batch_seen = True
            quietly("note the first batch", report_first_batch)

    def after_batch(self) -> None:
        """Keep the step's loss on its device, so that nothing waits."""
        if self.learn.training and not hasattr(self.learn, "lr_finder"):
            loss = self.learn.loss
            _losses.append(loss.detach() if isinstance(loss, torch.Tensor) else loss)

    def after_epoch(self) -> None:
        """Keep the epoch's losses and metrics as Python floats."""
        if not hasattr(self.learn, "lr_finder"):
            quietly("note the metrics", self._keep)
            _losses.clear()
            quietly("report the progress", self._report_progress, self.learn.epoch + 1)

    def after_cancel_fit(self) -> None:
        """Record the epoch after which early stopping ended the fit, before our after_epoch."""
        if _losses and len(self.learn.recorder.values) > self.learn.epoch:
            quietly("note the metrics", self._keep)
            _losses.clear()

    def after_fit(self) -> None:
        """Report metrics and hashes; the model's distributed wrapper is already removed."""
        if not hasattr(self.learn, "lr_finder"):
            quietly("record the result", report_result, self.learn.model.state_dict())

    def _report_progress(self, done: int | None = None) -> None:
        """Report the epochs of this fit, and the seconds of the last one, for `invoke runs`."""
        now = time.monotonic()
        seconds, self._began = now - self._began, now
        progress = {"fit": _fits - 1, "epochs": self.learn.n_epoch, "time": time.time()}
        if done is not None:
            progress |= {"done": done, "epoch_s": round(seconds, 3)}
        reporting.report("progress", {**progress, "metrics": _epochs[-1] if _epochs else {}})

    def _keep(self) -> None:
        recorder = self.learn.recorder
        if not recorder.values:
            return
        names = recorder.metric_names[1:]
        row = {n: _number(v) for n, v in zip(names, recorder.values[-1], strict=False)}
        _epochs.append(row)
        line = {"fit": _fits - 1, "epoch": self.learn.epoch, **_exact(row, self.learn.model)}
        _steps.append(line, len(_epochs) - 1)


def state() -> dict[str, Any]:
    """Return everything recorded so far, for a checkpoint."""
    return {"epochs": [dict(row) for row in _epochs], "fits": _fits, "losses": _floats(_losses)}


def load_state(state: Mapping[str, Any]) -> None:
    """Restore what `state` returned; later lines of an earlier start are dropped."""
    global _fits
    _epochs[:] = [dict(row) for row in state["epochs"]]
    _losses[:] = list(state["losses"])
    _fits = state["fits"]
    _steps.known = False


def _exact(row: Mapping[str, float | None], model: Any) -> dict[str, Any]:
    """Return an exact line for an epoch: metrics and losses in hex, a hash of each tensor."""
    tensors = get_model(model).state_dict()
    return {
        "metrics": {name: None if v is None else v.hex() for name, v in row.items()},
        "losses": [loss.hex() for loss in _floats(_losses)],
        "tensors": {name: hash_tensor(name, value)[:16] for name, value in tensors.items()},
    }


def _floats(losses: Sequence[Any]) -> list[float]:
    """Return losses as floats, with a single copy from the device if all are tensors."""
    tensors = [loss for loss in losses if isinstance(loss, torch.Tensor)]
    if len(tensors) == len(losses) and all(t.ndim == 0 for t in tensors) and tensors:
        plain = [t.as_subclass(torch.Tensor).double() for t in tensors]
        return [float(value) for value in torch.stack(plain).tolist()]
    return [
        float(loss.double().mean()) if hasattr(loss, "ndim") else float(loss) for loss in losses
    ]


class _Steps:
    """The file of the epochs; it may hold lines of an earlier start that will be rewritten."""

    def __init__(self) -> None:
        self.known = False

    def append(self, line: Mapping[str, Any], before: int) -> None:
        """Append a line after the first *before* lines."""
        path = reporting.folder() / contract.STEPS
        path.parent.mkdir(exist_ok=True)
        if not self.known:
            text = path.read_text(encoding="utf-8") if path.exists() else ""
            files.write_atomically(path, "".join(text.splitlines(keepends=True)[:before]))
            self.known = True
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


_steps = _Steps()


def _number(value: Any) -> float | None:
    """Return *value* as a float, or None if it is not a single number."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def report_first_batch() -> None:
    """Report the seconds from the record's creation (`invoke train`) to now."""
    created = datetime.fromisoformat(record.read(reporting.folder()).outcome.created)
    reporting.report("first_batch", {"seconds": round(time.time() - created.timestamp(), 3)})


def report_result(state: Mapping[str, Any]) -> None:
    """Report the last metrics, all epochs, the hashes of history and *state*, and its device."""
    result = {
        "metrics": _epochs[-1] if _epochs else {},
        "epochs": _epochs,
        "metric_history_sha256": hash_history(_epochs),
        "weights_sha256": hash_weights(state),
        "device": next((t.device.type for t in state.values() if hasattr(t, "device")), None),
    }
    reporting.report("result", result)
