"""The step before a resumed training on several GPUs."""

from types import SimpleNamespace

import torch
from learners import learner

from samerun.train.checkpoint import buckets


class Recorded(torch.nn.Module):
    """Keeps what its model was given, and in which precision that computed."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, images):
        self.given = images
        self.computed = self.model(images)
        return self.computed


def test_step_is_small_and_in_the_precision_of_the_fit():
    """A whole batch in float32 may not fit on a GPU; the loss is computed in float32."""
    learn = learner()
    learn.model = Recorded(learn.model)
    learn.mixed_precision = SimpleNamespace(autocast=torch.autocast("cpu", torch.bfloat16))
    original, losses = learn.loss_func, []

    def loss_func(predictions, targets):
        losses.append((predictions.dtype, type(targets), len(targets)))
        return original(predictions, targets)

    learn.loss_func = loss_func
    buckets.lay_out(learn)

    assert type(learn.model.given) is torch.Tensor
    assert learn.model.given.shape == (2, 3, 16, 16)
    assert learn.model.computed.dtype == torch.bfloat16
    assert losses == [(torch.float32, torch.Tensor, 2)]
    assert all(parameter.grad is None for parameter in learn.model.parameters())


def test_batch_without_a_common_number_of_items_is_whole():
    """E.g. of graphs, whose tensors hold nodes and edges; also with values that are no tensors."""
    nodes, edges = torch.zeros(7, 3), torch.zeros(9, 2)

    assert [len(x) for x in buckets._few((nodes, edges))] == [7, 9]
    assert [len(x) for x in buckets._few((nodes, "abc"))] == [7, 3]
    assert [len(x) for x in buckets._few(((nodes, nodes), {"y": nodes}))[0]] == [2, 2]
