"""
What callbacks and metrics remember between steps.

A callback with ``state_dict`` and ``load_state_dict`` says itself what that is. Of all
others, every attribute that a checkpoint can hold is kept: it is either state, or the same
again because the script that made the callback is the same.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from samerun.train.checkpoint.plain import NotPlain, plain, restored

# fastai's own wiring, and what a fit sets anew.
NOT_STATE = {"learn", "run", "run_train", "run_valid", "order", "name", "cbs"}


def capture(thing: Any) -> dict[str, Any]:
    """Return the state of one callback or metric."""
    # Of the class: an instance passes on what it lacks to the learner, and that to the model.
    if hasattr(type(thing), "state_dict") and hasattr(type(thing), "load_state_dict"):
        return {"own": plain(thing.state_dict())}
    state = {}
    for name, value in vars(thing).items():
        if name in NOT_STATE or name.startswith("__"):
            continue
        try:
            state[name] = plain(value)
        except NotPlain:
            continue
    return {"attributes": state}


def restore(thing: Any, state: dict[str, Any]) -> None:
    """Give *thing* the state that `capture` returned."""
    if "own" in state:
        thing.load_state_dict(state["own"])
        return
    for name, value in state["attributes"].items():
        # Past fastai's own __setattr__, which asks the learner for each name.
        vars(thing)[name] = restored(value, vars(thing).get(name))


def by_name(callbacks: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    """Give each callback a name of its own: two of one kind have numbers."""
    seen: dict[str, int] = {}
    for callback in callbacks:
        number = seen[callback.name] = seen.get(callback.name, -1) + 1
        yield (f"{callback.name}:{number}" if number else callback.name), callback
