import dataclasses
import json
import math

import pytest

from samerun.cli.show import verdicts
from samerun.core import contract, record
from samerun.core.errors import Different, WithinTolerance
from samerun.host.reproduce import causes, reproduce, traces, verdict
from samerun.host.reproduce.find_run import FoundRun


def line(epoch, *, fit=0, losses=(0.5, 0.25), metrics=None, tensors=None):
    """Return a line as the container writes it."""
    return json.dumps(
        {
            "fit": fit,
            "epoch": epoch,
            "metrics": {k: v.hex() for k, v in (metrics or {"valid_loss": 0.75}).items()},
            "losses": [value.hex() for value in losses],
            "tensors": tensors or {"0.weight": "a" * 16, "0.bias": "b" * 16},
        }
    )


def trace(run, *lines, weights="w", **changes):
    result = {"weights_sha256": weights, "metric_history_sha256": "h"}
    run = dataclasses.replace(run, result=result, **changes)
    return traces.trace_of(run, "\n".join(lines).encode())


def test_the_same_twice_is_identical(run):
    """Every bit alike, and nothing to explain."""
    one = trace(run, line(0), line(1))

    came = verdict.judge(one, one, 0.0)

    assert came.outcome == "identical"
    assert (came.first, came.largest, came.causes) == (None, None, ())
    assert {row.same for row in came.findings if row.subject != "versions"} == {True}


@pytest.mark.parametrize(
    ("changed", "kind", "told"),
    [
        ({"losses": (0.5, 0.25 + 2**-50)}, "loss", "epoch 1, loss of step 1"),
        ({"metrics": {"valid_loss": 0.7500001}}, "metric", "epoch 1, metric valid_loss"),
        ({"tensors": {"0.weight": "a" * 16, "0.bias": "c" * 16}}, "tensor", "tensor 0.bias"),
        ({"losses": (0.5,)}, "length", "number of steps: 2 and 1"),
        ({"metrics": {"valid_loss": 0.75, "more": 1.0}}, "metric", "metric more: absent and 1"),
    ],
)
def test_the_first_difference_is_named(run, changed, kind, told):
    """Losses of steps come before the epoch's metrics, and those before its tensors."""
    one, two = trace(run, line(0), line(1)), trace(run, line(0), line(1, **changed))

    came = verdict.judge(one, two, 0.0)

    assert came.first.kind == kind
    assert told in str(came.first)


def test_the_earliest_of_many_is_first(run):
    """A tensor of an early epoch comes before a loss of a later one."""
    early = line(0, tensors={"0.weight": "c" * 16, "0.bias": "b" * 16})
    one, two = trace(run, line(0), line(1)), trace(run, early, line(1, losses=(9.0, 9.0)))

    assert verdict.judge(one, two, 0.0).first.kind == "tensor"


def test_tolerance_is_relative_and_its_bound_is_within(run):
    """Of numbers above 1 relative, below absolute; a bit more than the bound is different."""
    one = trace(run, line(0, losses=(100.0, 0.0)))
    two = trace(run, line(0, losses=(101.0, 0.0)), weights="v")

    came = verdict.judge(one, two, 1 / 101)

    assert came.outcome == "within tolerance"
    assert came.largest == 1 / 101
    assert verdict.judge(one, two, 1 / 102).outcome == "different"


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_is_within_no_tolerance(run, value):
    """The same nan twice is the same; against a number it is as far as can be."""
    one, two = trace(run, line(0)), trace(run, line(0, losses=(0.5, value)))

    assert verdict.judge(one, two, 1e9).outcome == "different"
    assert verdict.judge(two, two, 0.0).outcome == "identical"


def test_fewer_epochs_are_different(run):
    """However close those are that both have."""
    one, two = trace(run, line(0), line(1)), trace(run, line(0))

    came = verdict.judge(one, two, 1e9)

    assert came.outcome == "different"
    assert "number of epochs: 2 and 1" in str(came.first)


def test_other_weights_alone_are_not_identical(run):
    """Metrics may hide a difference of the weights; their hash does not."""
    one, two = trace(run, line(0)), trace(run, line(0), weights="v")

    assert verdict.judge(one, two, 1e-6).outcome == "within tolerance"


def test_records_without_steps_are_compared_by_their_metrics(run):
    """Runs of older images: the note says how far the verdict reaches."""
    result = {"epochs": [{"valid_loss": 0.5}], "weights_sha256": "w"}
    old = traces.trace_of(dataclasses.replace(run, result=result), b"")
    new = trace(run, line(0, metrics={"valid_loss": 0.5}))

    came = verdict.judge(old, new, 0.0)

    assert came.first is None
    assert any("metrics were compared" in note for note in came.notes)


def test_a_torn_line_ends_the_trace_and_a_repeated_epoch_is_told_last(run):
    """A killed container leaves half a line; a resumed one may tell an epoch again."""
    one = trace(run, line(0), line(1, losses=(9.0,)), line(1), line(2)[:40])

    assert [epoch.epoch for epoch in one.epochs] == [0, 1]
    assert one.epochs[1].losses == ((0.5).hex(), (0.25).hex())


@pytest.mark.parametrize("text", ["[]", '{"fit": 0}', '{"fit":0,"epoch":0,"losses":["x"]}', "\xff"])
def test_lines_of_another_shape_are_no_trace(run, text):
    """The container may have written anything there."""
    assert traces.trace_of(run, text.encode("latin-1")).epochs == ()


def test_links_are_not_followed(run, tmp_path):
    """A run may have laid a link in the place of its file."""
    (tmp_path / "secret").write_text(line(0))
    (tmp_path / contract.PARTS).mkdir()
    (tmp_path / contract.STEPS).symlink_to(tmp_path / "secret")

    assert not traces.trace(run, tmp_path).exact


def with_variables(run, **variables):
    return dataclasses.replace(run, environment={"variables": variables})


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda r: with_hardware(r, gpus=("H200 (9.0)",)), "different GPUs"),
        (lambda r: with_hardware(r, driver="580.1"), "different drivers"),
        (lambda r: with_hardware(r, cpu="other"), "different CPUs"),
        (lambda r: dataclasses.replace(r, environment={"cpu_capability": "AVX2"}), None),
        (
            lambda r: dataclasses.replace(r, environment={"threads": 7}),
            "different threads: 1 and 7",
        ),
        (
            lambda r: with_variables(r, NCCL_ALGO="Ring", OMP_NUM_THREADS="1", NCCL_DEBUG="INFO"),
            "different variables: none and NCCL_ALGO=Ring",
        ),
        (lambda r: dataclasses.replace(r, seed=9), "different seed or topology"),
        (lambda r: dataclasses.replace(r, determinism="fast"), "--fast"),
        (lambda r: dataclasses.replace(r, data=()), "different data"),
        (lambda r: with_data(r, "photos", "labels"), "different data: labels, photos"),
        (lambda r: with_code(r, where="mounted"), "mounted code"),
        (with_variables, "no recorded input differs: an operation without"),
        (
            lambda r: with_environment(r, nondeterministic=["grid_sampler_2d_backward_cuda"]),
            "operations without a deterministic implementation: grid_sampler_2d_backward_cuda",
        ),
        (
            lambda r: with_environment(r, nondeterministic=["x"], variables={}),
            "no recorded input differs: code that reads",
        ),
        (lambda r: with_environment(r, nccl="2.28.9"), None),
        (lambda r: with_environment(r, peer_access="all", gpus=7), None),
    ],
)
def test_likely_causes(run, change, cause):
    """Each has its sentence; what only one of the two recorded is no cause."""
    found = list(causes.of(with_variables(run), change(run)))

    assert cause is None or any(text.startswith(cause) for text in found)
    assert all("None" not in text for text in found if "capability" in text)


def with_environment(run, **environment):
    return dataclasses.replace(run, environment=environment)


def test_other_gpus_of_the_same_model_and_other_links_are_named(run):
    """Unless one of the records, of an earlier release, does not know."""

    def on(links, *uuids):
        gpus = [{"name": "H100", "uuid": uuid} for uuid in uuids]
        return with_environment(run, gpus=gpus, peer_access=links, variables={})

    one, two = on([[0, 1]], "GPU-a", "GPU-b"), on([], "GPU-a", "GPU-c")
    told = " | ".join(causes.of(one, two))

    assert "other GPUs of the same model: GPU-a, GPU-b and GPU-a, GPU-c" in told
    assert "different links between the GPUs: 0-1 and none" in told
    assert "no recorded input differs" not in told
    assert "GPU" not in " ".join(causes.of(one, with_environment(run, variables={})))


def with_hardware(run, **changes):
    return dataclasses.replace(run, hardware=dataclasses.replace(run.hardware, **changes))


def with_data(run, *names):
    """Return *run* with named data, each with another fingerprint."""
    entries = [dataclasses.replace(run.data[0], target=f"/data/{name}") for name in names]
    return dataclasses.replace(run, data=tuple(entries))


def with_code(run, **changes):
    return dataclasses.replace(run, code=dataclasses.replace(run.code, **changes))


def test_threads_are_those_that_the_container_saw(run):
    """A limit on the container is unknown to the host that counted its cores."""
    told = {"variables": {"OMP_NUM_THREADS": "3"}, "threads": 4}

    assert causes.number_of_threads(dataclasses.replace(run, environment=told)) == 3
    assert causes.number_of_threads(dataclasses.replace(run, environment={"threads": 4})) == 4
    assert causes.number_of_threads(run) == 1
    odd = {"variables": {"OMP_NUM_THREADS": "-1; x"}, "threads": "many"}
    assert causes.number_of_threads(dataclasses.replace(run, environment=odd)) == 1


@pytest.mark.parametrize(("tolerance", "error"), [(1.0, WithinTolerance), (0.0, Different)])
def test_a_verdict_is_an_exit_code(run, tmp_path, tolerance, error):
    """93 and 94, each with the place and the cause; identical raises nothing."""
    one, two = trace(run, line(0)), trace(run, line(0, losses=(0.5, 0.5)), seed=2)
    came = verdict.judge(one, two, tolerance)
    made = reproduce.Reproduced(
        original=FoundRun(trace=one, link="first"), again=two.run, folder=tmp_path, verdict=came
    )

    with pytest.raises(error, match=r"(?s)first .*loss of step 1.*different seed"):
        reproduce.raise_unless_identical(made, tolerance)


def test_the_verdict_is_shown_line_by_line(run, capsys):
    """Subjects, the first difference, causes and the verdict itself."""
    one, two = trace(run, line(0)), trace(run, line(0, losses=(0.5, 0.5)))

    verdicts.verdict(verdict.judge(one, two, 0.0), "first", "again")

    shown = capsys.readouterr().out
    for text in ("image", "epoch 0", "loss of step 1: 0.25 and 0.5", "Verdict: different."):
        assert text in shown


def test_a_record_survives_with_its_link(run):
    """The new run names the one that it makes again."""
    linked = dataclasses.replace(run, reproduces="ent/proj/id")

    assert record.from_json(record.to_json(linked)).reproduces == "ent/proj/id"
