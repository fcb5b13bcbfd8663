"""The random state of training, before and after what the callback does."""

import random

import numpy as np
import pytest
import torch
from fastai.basics import CrossEntropyLossFlat, DataLoaders, Learner

from samerun.callback.rng import untouched_random_state
from samerun.callback.wandb import WandbCallback


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


class Recurrent(torch.nn.Module):
    """Two layers of an LSTM, with dropout between them."""

    def __init__(self):
        super().__init__()
        self.layers = torch.nn.LSTM(4, 8, 2, dropout=0.5, batch_first=True)
        self.head = torch.nn.Linear(8, 2)

    def forward(self, batch):
        return self.head(self.layers(batch)[0][:, -1])


def test_dropout_of_a_recurrent_network_stays_the_same(run):
    """Predictions are shown after each epoch, between two trainings that draw masks."""
    trained = []
    for callbacks in ([], [WandbCallback(log_preds_every_epoch=True)]):
        torch.manual_seed(1), random.seed(1), np.random.seed(1)  # noqa: NPY002
        items = [(torch.rand(5, 4), torch.tensor(n % 2)) for n in range(24)]
        loaders = DataLoaders.from_dsets(items[:16], items[16:], bs=4, device="cpu")
        learn = Learner(loaders, Recurrent(), loss_func=CrossEntropyLossFlat())
        with learn.no_bar(), learn.no_logging():
            learn.fit(3, 1e-2, cbs=callbacks)
        trained.append(torch.cat([p.detach().flatten() for p in learn.model.parameters()]))

    assert torch.equal(*trained)
