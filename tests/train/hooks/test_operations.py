"""Operations without a deterministic implementation are named once, and kept."""

import json
import warnings

import pytest
from torch import nn

from samerun.core import contract, parts, record
from samerun.train.hooks import operations

POOLING = "adaptive_max_pool2d_backward_cuda"


def warn(name):
    """Warn as torch does from C++: the warning belongs to the caller's line."""
    warnings.warn(
        f"{name} does not have a deterministic implementation, but you set "
        "'torch.use_deterministic_algorithms(True, warn_only=True)'.",
        UserWarning,
        stacklevel=2,
    )


@pytest.fixture
def heard(folder, monkeypatch):
    monkeypatch.setenv(contract.ENV_RECORD, str(folder / "run.json"))
    monkeypatch.setattr(operations, "_seen", [])
    operations._models.clear()
    shown = []
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *args, **kwargs: shown.append(str(message))
        operations.listen()
        yield shown
    operations._models.clear()


def recorded(folder):
    environment = folder / ".samerun" / "environment.json"
    environment.parent.mkdir(exist_ok=True)
    environment.write_text(json.dumps({"torch": "2"}))
    return parts.assemble(folder, record.read(folder)).environment.get("nondeterministic")


def test_each_operation_is_printed_once_and_recorded(heard, folder, capsys):
    for _ in range(3):
        warn("grid_sampler_2d_backward_cuda")
        warn("nll_loss2d_forward_out_cuda_template")
    warnings.warn("something else", stacklevel=1)

    names = ["grid_sampler_2d_backward_cuda", "nll_loss2d_forward_out_cuda_template"]
    assert recorded(folder) == names
    assert heard == ["something else"]
    assert capsys.readouterr().err.count("no deterministic implementation") == len(names)


@pytest.mark.parametrize(
    ("sizes", "is_named"),
    [([1], False), ([1, (1, 1)], False), ([1, 3], True), ([(1, None)], True), ([], True)],
)
def test_pooling_to_one_pixel_is_no_such_operation(heard, folder, sizes, is_named):
    """A model that calls the function, which has no layer, may pool to any size."""
    model = nn.Sequential(nn.Conv2d(3, 3, 1), *(nn.AdaptiveMaxPool2d(size) for size in sizes))
    operations._models.add(model)
    warn(POOLING)
    assert (recorded(folder) == [POOLING]) == is_named


def test_record_of_a_run_without_such_operations_has_no_list(heard, folder):
    assert recorded(folder) is None
