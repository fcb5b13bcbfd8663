"""Compare the traces of two runs, and return a verdict."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from samerun.core.record import Image
from samerun.host.image import identity
from samerun.host.reproduce import causes, traces
from samerun.host.reproduce.traces import Epoch, Trace

Outcome = Literal["identical", "within tolerance", "different"]
# Enough digits to distinguish any two floats.
DIGITS = 17


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of a verdict; *same* is None if unknown."""

    subject: str
    same: bool | None
    original: str
    again: str


@dataclass(frozen=True, kw_only=True)
class Divergence:
    """Where two trainings first differ; *step* counts from 0 within its epoch."""

    fit: int
    epoch: int
    kind: Literal["loss", "metric", "tensor", "length"]
    step: int | None = None
    name: str | None = None
    original: str
    again: str

    def __str__(self) -> str:
        what = {
            "loss": f"loss of step {self.step}",
            "metric": f"metric {self.name}",
            "tensor": f"tensor {self.name}",
            "length": f"number of {self.name}",
        }[self.kind]
        place = f"epoch {self.epoch}" + (f" of fit {self.fit}" if self.fit else "")
        return f"{place}, {what}: {self.original} and {self.again}"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The verdict; *largest* is the largest relative difference of a metric or a loss."""

    outcome: Outcome
    findings: tuple[Finding, ...]
    first: Divergence | None = None
    largest: float | None = None
    causes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def judge(original: Trace, again: Trace, tolerance: float) -> Verdict:
    """Compare the inputs, the hardware and the results of two runs."""
    one, two = _alike(original, again)
    first = next(_differences(one, two), None)
    weights = _weights(original, again)
    history = _history(original, again)
    is_same = first is None and weights.same is not False and history is not False
    largest = None if is_same else largest_difference(one, two)
    outcome = _outcome(is_same=is_same, largest=largest, tolerance=tolerance)
    return Verdict(
        outcome=outcome,
        findings=(
            *given(original, again),
            *_per_epoch(one, two, history=history),
            weights,
        ),
        first=first,
        largest=largest,
        causes=() if is_same else tuple(causes.of(original.run, again.run)),
        notes=tuple(_notes(original, again)),
    )


def _alike(original: Trace, again: Trace) -> tuple[tuple[Epoch, ...], tuple[Epoch, ...]]:
    """Return the epochs of both at the finest level of detail that both have."""
    if original.exact and again.exact:
        return original.epochs, again.epochs
    return traces.metrics_only(original.epochs), traces.metrics_only(again.epochs)


def _outcome(*, is_same: bool, largest: float | None, tolerance: float) -> Outcome:
    if is_same:
        return "identical"
    # Weights have only hashes, which don't show how large a difference is.
    return "within tolerance" if largest is not None and largest <= tolerance else "different"


def _differences(one: tuple[Epoch, ...], two: tuple[Epoch, ...]) -> Iterator[Divergence]:
    """Yield the differences between the trainings, in training order."""
    for a, b in zip(one, two, strict=False):
        yield from _within(a, b)
    if len(one) != len(two):
        last = (one if len(one) > len(two) else two)[min(len(one), len(two))]
        yield _length(last, "epochs", len(one), len(two))


def _within(a: Epoch, b: Epoch) -> Iterator[Divergence]:
    for step, (x, y) in enumerate(zip(a.losses, b.losses, strict=False)):
        if x != y:
            yield _place(a, "loss", x, y, step=step)
    if len(a.losses) != len(b.losses):
        yield _length(a, "steps", len(a.losses), len(b.losses))
    for name in dict.fromkeys((*a.metrics, *b.metrics)):
        was, is_ = a.metrics.get(name, "absent"), b.metrics.get(name, "absent")
        if was != is_:
            yield _place(a, "metric", was, is_, name=name)
    for name in dict.fromkeys((*a.tensors, *b.tensors)):
        one, two = a.tensors.get(name, "absent"), b.tensors.get(name, "absent")
        if one != two:
            yield Divergence(
                fit=a.fit, epoch=a.epoch, kind="tensor", name=name, original=one, again=two
            )


def _place(
    at: Epoch,
    kind: Literal["loss", "metric"],
    one: str | None,
    two: str | None,
    *,
    step: int | None = None,
    name: str | None = None,
) -> Divergence:
    shown = (_shown(one), _shown(two))
    return Divergence(
        fit=at.fit,
        epoch=at.epoch,
        kind=kind,
        step=step,
        name=name,
        original=shown[0],
        again=shown[1],
    )


def _length(at: Epoch, name: str, one: int, two: int) -> Divergence:
    return Divergence(
        fit=at.fit, epoch=at.epoch, kind="length", name=name, original=str(one), again=str(two)
    )


def _shown(text: str | None) -> str:
    if text is None or text == "absent":
        return text or "none"
    return f"{float.fromhex(text):.{DIGITS}g}"


def largest_difference(one: tuple[Epoch, ...], two: tuple[Epoch, ...]) -> float | None:
    """
    Return the largest difference of a metric or loss; None if nothing can be compared.

    It is relative to the larger of the two, or absolute if both are below 1.
    """
    if len(one) != len(two):
        return math.inf
    values = [difference(x, y) for a, b in zip(one, two, strict=True) for x, y in _pairs(a, b)]
    return max(values, default=None)


def _pairs(a: Epoch, b: Epoch) -> Iterator[tuple[str | None, str | None]]:
    if len(a.losses) != len(b.losses):
        yield "inf", None
    yield from zip(a.losses, b.losses, strict=False)
    for name in dict.fromkeys((*a.metrics, *b.metrics)):
        yield a.metrics.get(name), b.metrics.get(name)


def difference(one: str | None, two: str | None) -> float:
    """Return the difference of two numbers; infinite if one is absent or not finite."""
    if one == two:
        return 0.0
    a, b = traces.number(one), traces.number(two)
    if a is None or b is None or not (math.isfinite(a) and math.isfinite(b)):
        return math.inf
    return abs(a - b) / max(abs(a), abs(b), 1.0)


def given(original: Trace, again: Trace) -> Iterator[Finding]:
    """Yield findings about the inputs and the hardware."""
    a, b = original.run, again.run
    yield image(a.image, b.image)
    yield finding("code", causes.code(a), causes.code(b))
    yield finding("data", causes.data(a), causes.data(b))
    yield finding("seed, topology", causes.topology(a), causes.topology(b))
    yield finding("hardware", causes.hardware(a), causes.hardware(b))
    yield finding("threads", causes.threads(a), causes.threads(b))
    yield finding("versions", causes.versions(a), causes.versions(b))


def image(one: Image, two: Image) -> Finding:
    """Return whether the images have the same content, and their digests."""
    layers = bool(one.layers_digest and two.layers_digest)
    digests = [i.layers_digest if layers else i.digest or i.layers_digest for i in (one, two)]
    return Finding(
        subject="image",
        same=identity.same_image(one, two),
        original=digests[0] or "not recorded",
        again=digests[1] or "not recorded",
    )


def finding(subject: str, one: str | None, two: str | None) -> Finding:
    """Return whether two values are the same; None means that a value was not recorded."""
    same = None if one is None or two is None else one == two
    return Finding(
        subject=subject, same=same, original=one or "not recorded", again=two or "not recorded"
    )


def _per_epoch(
    one: tuple[Epoch, ...], two: tuple[Epoch, ...], *, history: bool | None
) -> Iterator[Finding]:
    """Yield a line for the metrics of each epoch, and one for the losses of all steps."""
    for i in range(max(len(one), len(two))):
        a, b = (epochs[i] if i < len(epochs) else None for epochs in (one, two))
        yield Finding(
            subject=_label(a or b),
            same=a is not None and b is not None and a == b,
            original=_row(a),
            again=_row(b),
        )
    if not one and not two:
        yield Finding(subject="metrics", same=history, original="none", again="none")


def _label(epoch: Epoch | None) -> str:
    if epoch is None:
        return "epoch"
    return f"epoch {epoch.epoch}" + (f" of fit {epoch.fit}" if epoch.fit else "")


def _row(epoch: Epoch | None) -> str:
    if epoch is None:
        return "absent"
    values = ((name, traces.number(text)) for name, text in epoch.metrics.items())
    metrics = ", ".join(f"{name} {value:.6g}" for name, value in values if value is not None)
    return metrics + (f", {len(epoch.losses)} steps" if epoch.losses else "")


def _history(original: Trace, again: Trace) -> bool | None:
    return _same_hash(original.run.result, again.run.result, "metric_history_sha256")


def _same_hash(one: dict[str, Any], two: dict[str, Any], name: str) -> bool | None:
    a, b = one.get(name), two.get(name)
    return None if a is None and b is None else a == b


def _weights(original: Trace, again: Trace) -> Finding:
    name = "weights_sha256"
    a, b = original.run.result.get(name), again.run.result.get(name)
    same = _same_hash(original.run.result, again.run.result, name)
    return Finding(
        subject="weights", same=same, original=a or "not recorded", again=b or "not recorded"
    )


def _notes(original: Trace, again: Trace) -> Iterator[str]:
    """Yield notes on the limits of this verdict."""
    if not (original.exact and again.exact):
        yield "Only metrics were compared: a run has no losses of steps and hashes of tensors."
    if original.run.result.get("weights_sha256") is None:
        yield "Weights were not compared: the original has no hash of its weights."
    if original.run.code.git_dirty and original.run.code.where == "image":
        yield "The original's checkout had uncommitted changes; the image contains them."
