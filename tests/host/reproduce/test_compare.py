import dataclasses

import pytest

from samerun.cli.show import comparison, plot
from samerun.core.errors import UsageError
from samerun.host.reproduce import compare, find_run, traces
from samerun.host.reproduce.find_run import FoundRun


def found(run, name, *, epochs=({"valid_loss": 0.5},), **changes):
    run = dataclasses.replace(run, name=name, result={"epochs": list(epochs)}, **changes)
    return FoundRun(trace=traces.trace_of(run, b""), link=name)


def test_only_what_differs_is_a_difference(run):
    """Seed and configuration, by their names and values."""
    other = dataclasses.replace(run, seed=9, config={"lr": 0.1})

    rows = [row for row in compare.differences(run, other) if not row.same]

    assert [(row.subject, row.original, row.again) for row in rows] == [
        ("config.lr", "absent", "0.1"),
        ("seed", "1", "9"),
    ]


def test_packages_are_those_of_the_records_where_an_image_is_gone(run):
    """The few that a record names are better than none."""
    other = dataclasses.replace(run.image, packages={"torch": "2.10.0"})

    (row,) = compare.packages(run.image, other, None, None)

    assert (row.subject, row.original, row.again) == ("package.torch", "2.15.0", "2.10.0")


def test_the_first_difference_of_the_metrics_is_named(run):
    """With both values in their columns."""
    one = found(run, "one")
    two = found(run, "two", epochs=[{"valid_loss": 0.25}])

    (first,) = [row for row in compare.trained(one, two) if row.subject.startswith("first")]

    assert first.subject == "first: epoch 0, metric valid_loss"
    assert (first.original, first.again) == ("0.5", "0.25")


def test_the_patches_are_compared(run, tmp_path):
    """Line by line, where both are at hand; else it says which is not."""
    runs = []
    for name, text in (("one", "+a\n"), ("two", "+b\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "code.patch").write_text(text)
        code = dataclasses.replace(run.code, git_dirty=True, patch_sha256=name)
        runs.append(dataclasses.replace(found(run, name, code=code), folder=tmp_path / name))

    lines = list(compare.patch(*runs))
    gone = list(compare.patch(runs[0], dataclasses.replace(runs[1], folder=None)))

    assert {"-+a", "++b"} <= set(lines)
    assert gone == ["the patch of two is not available"]


def test_a_metric_that_neither_has_is_refused(run):
    """With those that there are."""
    one = found(run, "one")

    assert comparison.choose_metric(one, one, None) == "valid_loss"
    with pytest.raises(UsageError, match="valid_loss"):
        comparison.choose_metric(one, one, "accuracy")


def test_a_run_is_not_compared_with_itself(run):
    """Nothing would be learned, and a typing error be missed."""
    with pytest.raises(UsageError, match="Both runs are"):
        find_run.refuse_same(found(run, "one"), found(run, "one"))


def test_two_curves_meet_and_part():
    """A falls from the top left, B is flat at the bottom, both end in one place."""
    lines = plot.draw([1.0, 0.0], [0.0, 0.0], width=11, height=3)

    body = [line.partition("┤")[2].ljust(11) for line in lines[:3]]
    assert body[0].startswith("A")
    assert body[2].startswith("B")
    assert body[2].endswith("*")
    assert lines[0].split()[0] == "1"
    assert lines[2].split()[0] == "0"


@pytest.mark.parametrize("curve", [[], [None], [float("nan")]])
def test_nothing_finite_is_no_plot(curve):
    """A line instead of an error."""
    assert plot.draw(curve, curve) == ["nothing to plot: there are no finite values"]


def test_one_value_is_a_point():
    """One epoch has no span on either axis."""
    assert any("*" in line for line in plot.draw([0.5], [0.5]))


@pytest.mark.parametrize("epochs", [2, 10, 101, 1001])
def test_the_axis_is_as_wide_as_the_plot(epochs):
    """However many digits the last epoch has."""
    lines = plot.draw([0.0, *[1.0] * (epochs - 1)], [], width=40, height=3)

    assert len(lines[-1]) == len("           ┤") + 40
