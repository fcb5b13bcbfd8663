"""Hear the values of an epoch at the moment when fastai's recorder takes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from samerun.callback.fits import infers, recorder_of
from samerun.callback.stream.metrics import distinct
from samerun.callback.stream.rows import to_number
from samerun.callback.warn import Warner

Values = list[tuple[str, Any]]


class Heard:
    """
    The values of the epoch that a learner is in.

    ``recorder.log`` holds them only until something else uses the learner: `get_preds` or
    `validate` in another callback begins it anew. So they are taken when the recorder
    has just added them, each with the name of the metric that it is of.
    """

    def __init__(self, learn: Any, warner: Warner) -> None:
        self._learn, self.warner = learn, warner
        self._recorder = recorder_of(learn)
        self._train: Values = []
        self._valid: Values = []
        self._followed: list[_Followed] = []
        if self._recorder is not None:
            self._follow("after_train", self._hear_train)
            self._follow("after_validate", self._hear_valid)

    def forget(self) -> None:
        """Begin a new epoch."""
        self._train, self._valid = [], []

    def close(self) -> None:
        """Leave the recorder alone."""
        for followed in self._followed:
            followed.remove()
        self._followed = []

    @property
    def validated(self) -> bool:
        """Say whether there are values of the validation in this epoch."""
        return bool(self._valid)

    def metrics(self) -> dict[str, Any]:
        """Return all values but the training loss, which is in the rows, as plain numbers."""
        opt = self._learn.opt
        hypers = [f"{name}_{i}" for i, group in enumerate(opt.hypers) for name in group]
        found, renamed = distinct([*self._train[1:], *self._valid, *self._columns()], hypers)
        if renamed:
            pairs = ", ".join(f"{name} as {key}" for key, name in renamed.items())
            self.warner.once(
                "names of metrics",
                f"Metrics of one name, or of a name that rows need, are logged in their order: "
                f"{pairs}. Give each metric its own name.",
            )
        return found

    def value(self, monitor: str) -> float | None:
        """Return the value of *monitor*, by the name that the recorder knows it by."""
        for name, value in (*self._train, *self._valid, *self._columns()):
            if name == monitor:
                number = to_number(value)
                return None if number is None or isinstance(number, str) else float(number)
        return None

    def _follow(self, name: str, then: Callable[[], None]) -> None:
        self._followed.append(_Followed(self._recorder, name, then))

    def _hear_train(self) -> None:
        if not infers(self._learn):
            # What was validated between its batches is not the epoch's validation.
            self._valid = []
            self._train = self._added("train", "train_loss")

    def _hear_valid(self) -> None:
        # An epoch is validated once; what comes after that is another callback's.
        if not self._valid and not infers(self._learn):
            self._valid = self._added("valid", "valid_loss")

    def _added(self, part: str, loss: str) -> Values:
        """Return what the recorder has just added to its log, under the names that it prints."""
        with self.warner.guarded("metrics of the epoch"):
            recorder: Any = self._recorder
            metrics = list(recorder._train_mets if part == "train" else recorder._valid_mets)
            prefix = f"{part}_" if recorder.train_metrics and recorder.valid_metrics else ""
            names = [loss, *(f"{prefix}{metric.name}" for metric in metrics[1:])]
            log = list(recorder.log)
            return list(zip(names, log[len(log) - len(metrics) :], strict=False))
        return []

    def _columns(self) -> Values:
        """Return what other callbacks have added to the recorder's table."""
        names = list(getattr(self._recorder, "metric_names", ()))
        log = list(getattr(self._recorder, "log", ()))
        if len(names) != len(log) or not self._train + self._valid:
            return []
        known = {"epoch", "time", *(name for name, _ in self._train + self._valid)}
        return [pair for pair in zip(names, log, strict=True) if pair[0] not in known]


class _Followed:
    """Stand in for a method of *owner*, and call *then* after it."""

    def __init__(self, owner: Any, name: str, then: Callable[[], None]) -> None:
        self._owner, self._name, self._then = owner, name, then
        self._original = getattr(owner, name)
        vars(owner)[name] = self

    def __call__(self) -> Any:
        result = self._original()
        self._then()
        return result

    def remove(self) -> None:
        if vars(self._owner).get(self._name) is self:
            del vars(self._owner)[self._name]

    def __reduce__(self) -> tuple[Any, ...]:
        # An export or a copy of the learner has the method itself.
        return getattr, (self._owner, self._name)
