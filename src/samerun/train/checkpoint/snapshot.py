"""Everything that the next step of a training depends on."""

import sys
from typing import Any

import torch
from fastai.learner import Recorder
from fastai.optimizer import Optimizer
from fastai.torch_core import get_model
from fastcore.foundation import L

from samerun.train.checkpoint import attributes
from samerun.train.checkpoint.plain import plain, restored


def capture(learn: Any) -> dict[str, Any]:
    """Return the state that is the same on all ranks."""
    scaler = getattr(learn, "scaler", None)
    return {
        "model": plain(get_model(learn.model).state_dict()),
        "optimizer": _optimizer_state(learn.opt, device(learn)),
        "gradients": plain(_gradients(learn)),
        "scaler": plain(scaler.state_dict()) if scaler else None,
        "train_iter": getattr(learn, "train_iter", 0),
        "pct_train": float(getattr(learn, "pct_train", 0.0)),
    }


def capture_own(learn: Any, skipped: tuple[type, ...]) -> dict[str, Any]:
    """Return the state that differs by rank: callbacks and metrics, e.g. losses."""
    home = device(learn)
    return {
        name: _recorder(cb, home) if isinstance(cb, Recorder) else attributes.capture(cb, home)
        for name, cb in attributes.by_name(learn.cbs)
        if not isinstance(cb, skipped)
    }


def restore(learn: Any, state: dict[str, Any]) -> None:
    """Restore in *learn*, which has an optimizer, what `capture` returned."""
    _restore_layout(get_model(learn.model), state["model"])
    get_model(learn.model).load_state_dict(state["model"])
    learn.opt.load_state_dict(_for_optimizer(learn.opt, state["optimizer"], device(learn)))
    parameters = dict(get_model(learn.model).named_parameters())
    for name, gradient in (state["gradients"] or {}).items():
        parameters[name].grad = gradient.to(parameters[name].device, copy=True)
    if state["scaler"] and getattr(learn, "scaler", None):
        learn.scaler.load_state_dict(state["scaler"])


def restore_own(learn: Any, state: dict[str, Any], own: dict[str, Any]) -> None:
    """Restore what callbacks reset at the start of an epoch: counters, sums, records."""
    home = device(learn)
    learn.train_iter, learn.pct_train = state["train_iter"], state["pct_train"]
    for name, callback in attributes.by_name(learn.cbs):
        values = own.get(name)
        if values is None:
            continue
        if isinstance(callback, Recorder):
            _restore_recorder(learn, callback, values, home)
        else:
            attributes.restore(callback, values, home)


def shapes(model: Any) -> str:
    """Return names and shapes of the model's state, for comparison."""
    state = get_model(model).state_dict()
    return " ".join(f"{n}{list(v.shape)}" for n, v in state.items() if hasattr(v, "shape"))


def device(learn: Any) -> torch.device:
    """Return the device of the model; of its first parameter, if it is on several."""
    first = next(learn.model.parameters(), None)
    return torch.device("cpu") if first is None else first.device


def _restore_layout(model: Any, state: dict[str, torch.Tensor]) -> None:
    """
    Give each parameter and buffer its strides: ``channels_last`` chooses other algorithms.

    The callback that changes them does so in the next fit, but code may use the model before.
    """
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        saved = state.get(name)
        if saved is None or saved.shape != tensor.shape or saved.stride() == tensor.stride():
            continue
        options = {"dtype": tensor.dtype, "device": tensor.device}
        tensor.data = torch.empty_strided(saved.shape, saved.stride(), **options)


def _optimizer_state(opt: Any, home: torch.device) -> Any:
    return plain(opt.state_dict(), home if isinstance(opt, Optimizer) else None)


def _for_optimizer(opt: Any, state: dict[str, Any], home: torch.device) -> dict[str, Any]:
    """
    Return *state* in the optimizer's format.

    fastai's optimizers assign it as it is: tensors must be on the device, and the hypers in an
    L. torch's copy it to the device of each parameter.
    """
    if not isinstance(opt, Optimizer):
        return state
    return {**restored(state, home), "hypers": L(dict(group) for group in state["hypers"])}


def _gradients(learn: Any) -> dict[str, torch.Tensor] | None:
    """Return the gradients during an accumulation; otherwise the next step clears them."""
    # Not imported: see `install`.
    training = sys.modules.get("fastai.callback.training")
    kind = training.GradientAccumulation if training else ()
    accumulating = [cb for cb in learn.cbs if isinstance(cb, kind)]
    if not accumulating or not getattr(accumulating[0], "count", 0):
        return None
    named = get_model(learn.model).named_parameters()
    return {name: p.grad for name, p in named if p.grad is not None}


def _recorder(recorder: Any, home: torch.device) -> dict[str, Any]:
    return {
        "lrs": plain([_number(value) for value in recorder.lrs]),
        "iters": plain(list(recorder.iters)),
        "losses": plain(torch.stack(list(recorder.losses)) if recorder.losses else None, home),
        "values": [[_number(value) for value in row] for row in recorder.values],
        "smooth_loss": attributes.capture(recorder.smooth_loss, home),
        "loss": attributes.capture(recorder.loss, home),
        "metrics": [attributes.capture(metric, home) for metric in recorder.metrics],
    }


def _restore_recorder(learn: Any, recorder: Any, state: dict[str, Any], home: torch.device) -> None:
    recorder.lrs, recorder.iters = list(state["lrs"]), list(state["iters"])
    losses = restored(state["losses"], home)
    recorder.losses = [] if losses is None else list(losses)
    recorder.values = [L(row) for row in state["values"]]
    attributes.restore(recorder.smooth_loss, state["smooth_loss"], home)
    attributes.restore(recorder.loss, state["loss"], home)
    for metric, values in zip(recorder.metrics, state["metrics"], strict=False):
        attributes.restore(metric, values, home)
    if recorder.losses:
        learn.smooth_loss = recorder.smooth_loss.value
    if recorder.values:
        learn.final_record = recorder.values[-1].copy()


def _number(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value
