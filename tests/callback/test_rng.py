"""The random state of training, before and after what the callback does."""

import random

import numpy as np
import pytest
import torch

from samerun.callback.rng import untouched_random_state


def drawn():
    return random.random(), np.random.rand(), torch.rand(1).item()  # noqa: NPY002 - as fastai does


def test_generators_of_the_host_go_on_as_if_nothing_had_been_drawn():
    torch.manual_seed(1), random.seed(1), np.random.seed(1)  # noqa: NPY002
    expected = drawn()
    torch.manual_seed(1), random.seed(1), np.random.seed(1)  # noqa: NPY002

    def fails():
        with untouched_random_state():
            drawn()
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert drawn() == expected


def test_generator_of_a_gpu_is_set_only_if_it_was_used(monkeypatch):
    """To set it restarts the dropout inside cuDNN's recurrent networks."""
    states = [torch.tensor([1]), torch.tensor([2])]
    restored = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: [s.clone() for s in states])
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda s, gpu: restored.append((gpu, s)))
    with untouched_random_state():
        states[1] += 5

    assert restored == [(1, torch.tensor([2]))]
