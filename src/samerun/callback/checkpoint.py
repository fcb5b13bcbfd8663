"""Save the best model of a fit, and log it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastai.callback.tracker import SaveModelCallback
from fastai.learner import join_path_file, load_model

from samerun.callback.artifacts import model_artifact
from samerun.callback.distributed import Agreement
from samerun.callback.exports import StaysOut
from samerun.callback.fits import Fit, current_fit, finds_rates, infers, saver_of
from samerun.callback.session import Session, saved_file
from samerun.callback.stream.metrics import smaller_is_better
from samerun.callback.warn import Warner

_GOES_ON = "Training goes on, and ends with the last model."


class BestModelCallback(StaysOut, SaveModelCallback):
    """
    Save the best model, as ``SaveModelCallback`` does, but never end a training.

    Without one finite value of the metric nothing is saved, and loading at the end would
    raise, or load a file of an earlier training. Where no epoch has the metric, the last
    model is saved. Where a file can't be written, because the disk is full, say, the
    training ends with the last model.

    Args:
        warner: Tells of a file that can't be written.
        value: Returns the value of a metric in the epoch that has just ended.
        **options: Those of ``SaveModelCallback``.
    """

    def __init__(
        self, warner: Warner, value: Callable[[str], float | None], **options: Any
    ) -> None:
        super().__init__(**options)
        self._warner, self._value = warner, value
        self.failed = self.missing = False
        self.best: float | None
        self._fit: Fit | None
        self._agreement: Agreement
        self.__dict__.update(self._outside())

    def _outside(self) -> dict[str, Any]:
        return {"_fit": None, "_agreement": Agreement(None)}

    @property
    def name(self) -> str:
        """Return the name that fastai's own callback has on the learner."""
        return "save_model"

    def before_fit(self) -> None:
        """Forget the last training."""
        fit = current_fit(self.learn)
        if infers(self.learn) or (fit is not None and fit is self._fit):
            return
        self.run = not finds_rates(self.learn)
        if not self.run:
            return
        self._fit, self._agreement = fit, Agreement(fit)
        if self.reset_on_fit or self.best is None:
            self.best = float("inf") if smaller_is_better(self.monitor, [self]) else -float("inf")
        self.last_saved_path, self.failed, self.missing = None, False, True

    def after_epoch(self) -> None:
        """Save the model if the metric of this epoch is the best."""
        if self._is_ours():
            with self._warner.guarded("model", _GOES_ON):
                self._compare(self._value(self.monitor))

    def after_fit(self, **_: Any) -> None:
        """Load the best model, if there is one."""
        if not self._is_ours():
            return
        self._fit = None
        if self.missing and not self.failed:
            self._warner.once(
                "best model",
                f"No epoch has a value of {self.monitor!r}: the last model is saved, not the best.",
            )
            self._save(f"{self.fname}")
        with self._warner.guarded("best model", "The training ends with the last model."):
            self._load(found=self.last_saved_path is not None and not self.missing)

    def _compare(self, value: float | None) -> None:
        if value is None:
            return
        self.missing = False
        if self.comp(value - self.min_delta, self.best):
            self.best = value
            print(  # noqa: T201 - as fastai's own does
                f"Better model found at epoch {self.epoch} with {self.monitor} value: {value}."
            )
            self._save(f"{self.fname}")

    def _save(self, name: str) -> None:
        # torch.save empties the file first: after a failure the earlier model is lost as well.
        self.last_saved_path, self.failed = None, True
        with self._warner.guarded("model", _GOES_ON):
            super()._save(name)
            self.failed = False

    def _load(self, *, found: bool) -> None:
        if self._agreement.alone:
            if found:
                super().after_fit()
        elif self._agreement.on(found):
            # Not `learn.load`: it waits for all processes, and some may have no such callback.
            learn = self.learn
            path = join_path_file(self.fname, learn.path / learn.model_dir, ext=".pth")
            device = getattr(learn.dls, "device", None)
            options = {"with_opt": self.with_opt, "device": device, "weights_only": False}
            load_model(path, learn.model, learn.opt, **options)
        elif found:
            self._warner.once(
                "best model",
                "The best model is logged, but not loaded: not all processes have the callback.",
            )

    def _is_ours(self) -> bool:
        fit = current_fit(self.learn)
        within = fit is not None and fit.within > 0
        return not within and not infers(self.learn) and self._fit in (None, fit)


def log_saved_model(session: Session, model_name: str | None) -> None:
    """
    Log the file that the fit saved, with the metrics of the epoch it is from.

    Args:
        session: The fit.
        model_name: Name of the artifact; None: the name of the file.
    """
    learn = session.learn
    saver = saver_of(learn)
    session.note_saved_model()
    metadata = dict(session.saved or session.last)
    if getattr(saver, "failed", False):
        return  # and warned of
    if saver is None:
        path = learn.save(model_name or "model")
    elif saver.at_end or getattr(saver, "missing", False):
        path, metadata = saver.last_saved_path, dict(session.last)
    elif session.saved is None or (file := saved_file(learn)) is None:
        session.warner.once("model", "No model was saved in this fit, so none was logged.")
        return
    else:
        path = file[0]
    name = model_name or getattr(saver, "fname", "model")
    aliases = ["latest", "best"] if _is_best(session, saver, metadata) else ["latest"]
    # The next fit may write over the file: the artifact is made now, sent when it can be.
    artifact = model_artifact(path, str(name), metadata)
    session.courier.send(
        "model",
        lambda: session.run.log_artifact(artifact, aliases=aliases),
        # wandb says nothing of an upload that was refused.
        after=artifact.wait,
    )


def loads_saved(learn: Any, session: Session) -> bool:
    """Say whether the fit that ends has loaded the best model that it saved."""
    saver = saver_of(learn)
    if saver is None or session.saved is None or getattr(saver, "missing", False):
        return False
    return not (saver.at_end or saver.every_epoch)


def _is_best(session: Session, saver: Any, metadata: dict[str, Any]) -> bool:
    monitor = getattr(saver, "monitor", "valid_loss")
    value, best = metadata.get(monitor), session.progress.best.get(monitor)
    if value is None or best is None:
        return False
    smaller = smaller_is_better(monitor, session.learn.cbs)
    return bool(value <= best if smaller else value >= best)
