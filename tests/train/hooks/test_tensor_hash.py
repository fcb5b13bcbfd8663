"""Hashes of weights and metrics."""

import torch

from samerun.train.hooks.tensor_hash import hash_history, hash_weights


def state():
    return {"w": torch.arange(6.0).reshape(2, 3), "n": torch.tensor(3)}


def test_order_and_layout_in_memory_do_not_count():
    """The hash is over names, shapes, dtypes and values."""
    other = {"n": torch.tensor(3), "w": torch.arange(6.0).reshape(2, 3).t().contiguous().t()}

    assert hash_weights(state()) == hash_weights(other)


def test_each_property_of_a_tensor_counts():
    """One bit, one name, one shape or one dtype more is another hash."""
    changed = [state() for _ in range(4)]
    changed[0]["w"][0, 0] = torch.nextafter(torch.tensor(0.0), torch.tensor(1.0))
    changed[1]["v"] = changed[1].pop("w")
    changed[2]["w"] = changed[2]["w"].reshape(3, 2)
    changed[3]["w"] = changed[3]["w"].to(torch.float64)

    assert len({hash_weights(s) for s in [state(), *changed]}) == 5


def test_half_precision_and_empty_tensors_are_hashed():
    """Every dtype has bytes."""
    kinds = {
        "h": torch.ones(2, dtype=torch.bfloat16),
        "e": torch.empty(0),
        "b": torch.tensor([True]),
    }

    assert len(hash_weights(kinds)) == 64


def test_history_counts_to_the_last_bit():
    """Two floats that print alike are told apart."""
    assert hash_history([{"loss": 0.1 + 0.2}]) != hash_history([{"loss": 0.3}])
    assert hash_history([{"loss": 0.3, "f1": None}]) == hash_history([{"f1": None, "loss": 0.3}])
