"""
The state of callbacks and metrics between steps.

A callback with ``state_dict`` and ``load_state_dict`` defines it itself. For all others, every
attribute that a checkpoint can hold is saved: it is either state, or a constant that the same
script sets to the same value.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from samerun.train.checkpoint.plain import NotPlain, plain, restored

# fastai's internal attributes, and those that each fit sets.
NOT_STATE = {"learn", "run", "run_train", "run_valid", "order", "name", "cbs"}


def capture(thing: Any, home: torch.device) -> dict[str, Any]:
    """Return the state of one callback or metric; *home* is the model's device."""
    # Check the class: an instance delegates missing attributes to the learner and the model.
    if hasattr(type(thing), "state_dict") and hasattr(type(thing), "load_state_dict"):
        return {"own": plain(thing.state_dict(), home)}
    state = {}
    for name, value in vars(thing).items():
        if name in NOT_STATE or name.startswith("__"):
            continue
        try:
            state[name] = plain(value, home)
        except NotPlain:
            continue
    return {"attributes": state}


def restore(thing: Any, state: dict[str, Any], home: torch.device) -> None:
    """Set the state of *thing* to what `capture` returned."""
    if "own" in state:
        thing.load_state_dict(restored(state["own"], home))
        return
    for name, value in state["attributes"].items():
        # Bypasses fastai's __setattr__, which looks up each name in the learner.
        vars(thing)[name] = restored(value, home, vars(thing).get(name))


def by_name(callbacks: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    """Yield each callback with a unique name; further ones of the same kind are numbered."""
    seen: dict[str, int] = {}
    for callback in callbacks:
        number = seen[callback.name] = seen.get(callback.name, -1) + 1
        yield (f"{callback.name}:{number}" if number else callback.name), callback
