"""The callback that takes the place of ``fastai.callback.wandb.WandbCallback``."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import Any, Literal

from fastai.callback.core import Callback, FetchPredsCallback
from fastai.callback.tracker import SaveModelCallback

from samerun.callback.artifacts import dataset_folder, log_dataset, log_model
from samerun.callback.checkpoint import BestModelCallback, loads_saved, log_saved_model
from samerun.callback.config import describe_batch, describe_learner
from samerun.callback.distributed import NoRun, current_run, world_size
from samerun.callback.exports import StaysOut
from samerun.callback.fetched import Fetched, sample
from samerun.callback.fits import (
    Fit,
    current_fit,
    finds_rates,
    hear_fits,
    infers,
    saver_of,
    validates,
)
from samerun.callback.histograms import gradient_norm
from samerun.callback.inherited import FastaiNames
from samerun.callback.media.samples import Samples
from samerun.callback.media.tables import wandb_process
from samerun.callback.options import check_options
from samerun.callback.rng import untouched_random_state
from samerun.callback.session import Session
from samerun.callback.stream.heard import Heard
from samerun.callback.stream.late_rows import keep_late_rows
from samerun.callback.stream.progress import progress_of
from samerun.callback.warn import Warner

__all__ = ["WandbCallback", "log_dataset", "log_model", "wandb_process"]

# Rows wait for this many steps, or seconds, before they are handed over.
_EVERY, _SECONDS = 64, 5.0
_CURVES = "Curves need scikit-learn, and validation items of at least two classes."
_REMEDIES = {"roc_curve": _CURVES, "pr_curve": _CURVES}


hear_fits()


class WandbCallback(StaysOut, FastaiNames, Callback):
    """
    Log a training to the current W&B run.

    Args:
        log: ``"gradients"``, ``"parameters"``, ``"all"`` or None: which histograms to log.
        log_preds: Log a table with predictions of items of the validation set, and charts.
        log_preds_every_epoch: Log it after each epoch, not only at the end.
        log_model: Log the best model as an artifact.
        model_name: Name of the model's file and artifact, over that of ``SaveModelCallback``.
        log_dataset: A folder to log as an artifact; True: that of ``learn.dls.path``.
        dataset_name: The artifact's name; default: the folder's.
        valid_dl: The items to show; default: random ones of ``learn.dls.valid``.
        n_preds: How many items to show.
        seed: Which random items to show; the same seed shows the same items.
        reorder: Unused, for fastai's signature; items keep the order in which they were drawn.
        log_freq: Steps between two histograms; default: 20 in a fit, one per 1000 steps at least.
        log_every: Steps that may wait before they are handed to W&B together.
        log_grad_norm: Log the norm of all gradients of each step.
        dataset_reference: Log paths, sizes and checksums of the dataset's files, not the files.
        run: The run to log to, where several threads have one each; default: ``wandb.run``.

    Raises:
        ValueError: *log* is none of its choices, or a number is none that can be.
        NoRun: On ``fit``, if ``wandb.init`` was not called. Other processes of a distributed
            job stay silent instead.
    """

    # After SaveModelCallback and EarlyStopping: the best model is saved, or loaded, by then.
    order, remove_on_fetch, run_valid = SaveModelCallback.order + 9, True, False
    # Given to several learners, it logs the one that fits.
    follows_fits = True
    # `learn.summary()` takes such callbacks out.
    _only_train_loop = True

    def __init__(
        self,
        log: Literal["gradients", "parameters", "all"] | None = None,
        log_preds: bool = True,
        log_preds_every_epoch: bool = False,
        log_model: bool = False,
        model_name: str | None = None,
        log_dataset: bool | str | Path = False,
        dataset_name: str | None = None,
        valid_dl: Any = None,
        n_preds: int = 36,
        seed: int = 12345,
        reorder: bool = True,
        *,
        log_freq: int | None = None,
        log_every: int = _EVERY,
        log_grad_norm: bool = False,
        dataset_reference: bool = False,
        run: Any = None,
    ) -> None:
        check_options(log, n_preds=n_preds, log_every=log_every, log_freq=log_freq)
        self.__dict__.update(self._outside(), _run=run)
        self.log, self.log_freq, self.log_every = log, log_freq, log_every
        self.log_preds, self.log_preds_every_epoch = log_preds, log_preds_every_epoch
        self.log_model, self.model_name = log_model, model_name
        self.log_dataset, self.dataset_name = log_dataset, dataset_name
        self.valid_dl, self.n_preds, self.seed, self.reorder = valid_dl, n_preds, seed, reorder
        self.log_grad_norm, self.dataset_reference = log_grad_norm, dataset_reference

    def _outside(self) -> dict[str, Any]:
        """Return what belongs to one fit; the run and the data stay in this process, too."""
        return {
            "_fit": None, "_heard": None, "_session": None, "_own_saver": None,
            "_warner": Warner(), "_sizes_due": True, "_resumed": None,
            "_fetched": None, "_run": None, "valid_dl": None,
        }  # fmt: skip

    def __deepcopy__(self, memo: dict[int, Any]) -> WandbCallback:
        """Return a copy that logs to the same run and shows the same items."""
        copied: WandbCallback = super().__deepcopy__(memo)
        copied.__dict__.update(_run=self._run, valid_dl=self.valid_dl)
        return copied

    def __call__(self, event_name: str) -> Any:
        """
        Call what the event means to us, and the handler of that name, if there is one.

        The former have other names: a subclass that was written for fastai's callback may have
        its own handlers for the events that fastai's does not use.
        """
        act = _ACTS.get(event_name)
        if act is not None and self.run:
            act(self)
        # In no time if there is none: 20 events come per batch.
        handler = getattr(type(self), event_name, None)
        if handler is None or handler is FastaiNames.before_batch:
            return None
        if handler is WandbCallback.after_batch:  # raises nothing, and looks at `training` itself
            return handler(self) if self.run else None
        return super().__call__(event_name)

    # -- the life of a fit ---------------------------------------------------------------

    def after_create(self) -> None:
        """Add what saves the best model, if the learner does not have it."""
        if self.log_model:
            self._ensure_saver()

    def before_fit(self) -> None:
        """Get ready. Whether this is a training shows only at its first batch."""
        fit = current_fit(self.learn)
        if infers(self.learn) or finds_rates(self.learn):
            return
        if fit is not None and fit is self._fit:
            fit.within += 1  # another callback has begun a `with learn:`
        else:
            self._enter(fit)

    def _enter(self, fit: Fit | None) -> None:
        self._end()
        self._fit = fit = fit or Fit(self.learn)
        fit.at_end(lambda: self._leave(fit))
        self._heard = Heard(self.learn, self._warner)
        if self.log_model:
            # Passed to fit(), the callback was never told of the learner's creation.
            self._ensure_saver(started=True)
        if self.log_preds and type(self).log_predictions is not WandbCallback.log_predictions:
            with self._warner.guarded("prediction samples", "Give them as valid_dl=..."):
                self._fetch()

    def _leave(self, fit: Fit) -> None:
        """Tidy up after a fit that an exception or Ctrl-C has ended, and tell W&B all of it."""
        if self._fit is not fit:
            return  # It has ended as it should.
        if self._session is not None:
            with self._warner.guarded("last rows"):
                self._session.break_epoch()
        self._end()

    def _on_train(self) -> None:
        """Begin to log, at the first epoch that trains."""
        if self._fit is not None and current_fit(self.learn) is self._fit:
            self._fit.within = 0  # what began a `with learn:` has not ended it
        if self._fit is None and not infers(self.learn) and not finds_rates(self.learn):
            self._enter(current_fit(self.learn))  # added within the fit
        if self._elsewhere():
            return
        if self._session is None:
            self._begin()
        if self._session is not None:
            self._session.begin_epoch()
            self._watch("begin_epoch")
        self._heard.forget()

    def _on_validate(self) -> None:
        """Watch the validation: samples and charts are of what it sees and computes."""
        session = self._session
        if session is not None and session.trains:
            session.note_prediction()
        elif session is not None and not self._elsewhere():
            self._watch("begin_validation")

    def _on_trained(self) -> None:
        """Take note that the validation which begins now is that of the epoch."""
        if self._session is not None and not self._elsewhere():
            self._session.end_training()

    def _on_validated(self) -> None:
        """Keep what the validation has shown."""
        if self._session is not None and not self._elsewhere():
            self._watch("end_validation")

    def _on_step(self) -> None:
        """Look at the gradients as the optimizer is about to use them."""
        session = self._session
        if session is None:
            return
        session.begin_step()
        if self.log_grad_norm:
            with self._warner.guarded("gradient norm"):
                session.extra = {"grad_norm": gradient_norm(self.learn.model)}
        if self.log is not None and not session.prefix:  # all ranks have the same gradients
            with self._warner.guarded("gradients and parameters"):
                session.log_histograms(self.log, self.log_freq)

    def after_batch(self) -> None:
        """Keep losses and hyper-parameters of the step; they stay where they are."""
        session = self._session
        if session is None or not session.alive or not self.learn.training:
            return
        try:
            session.add_step()
        except Exception as error:
            self._warner.once("row of a step", f"W&B did not get a step ({error!r}).")
        if self._sizes_due and session.alive:
            self._log_sizes(session)

    def after_epoch(self) -> None:
        """Log the metrics, and predictions if they are wanted each epoch."""
        session = self._session
        if session is None or self._elsewhere() or session.open_epoch is None:
            return
        self._watch("end_validation")
        session.close_epoch()
        if self.log_preds and self.log_preds_every_epoch:
            self._call_log_predictions()

    def _on_cancel_fit(self) -> None:
        """Log an epoch that early stopping, or a canceled fit, ended before ``after_epoch``."""
        session = self._session
        if session is None or self._elsewhere():
            return
        self._watch("end_validation")
        # Now, while the model is that of the epoch: the best one is loaded in `after_fit`.
        if session.break_epoch() and self.log_preds and self.log_preds_every_epoch:
            self._call_log_predictions()

    def after_fit(self) -> None:
        """Log predictions, charts and the model, and let go of the run."""
        if self._elsewhere():
            if self._fit is not None and self._fit.within and not infers(self.learn):
                self._fit.within -= 1
            return
        session = self._session
        if session is not None:
            session.break_epoch()
            self._watch("end_fit", loaded=loads_saved(self.learn, session))
            if self.log_preds:
                self._log_end()
            if self.log_model and session.main:
                with self._warner.guarded("model"):
                    log_saved_model(session, self.model_name)
        self._end()

    # -- checkpoints ---------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return what a later process needs to go on logging where this one is."""
        session = self._session
        with self._warner.guarded("place in the run"), contextlib.suppress(NoRun):
            run = session.run if session else current_run("WandbCallback", self._run)
            if run is not None:
                fit = session.state() if session else None
                return {"progress": dataclasses.asdict(progress_of(run)), "fit": fit}
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """
        Continue from what `state_dict` returned, in a run that was resumed.

        Before the first batch and, where a training goes on inside an epoch, once more when
        the epoch has begun: that sets its own counters.
        """
        with self._warner.guarded("place in the run"), contextlib.suppress(NoRun):
            run = current_run("WandbCallback", self._run)
            if run is None or not state:
                return
            vars(progress_of(run)).update(state["progress"])
            self._resumed = state["fit"]
            if self._session is not None:
                self._restore_session(self._session)

    def _restore_session(self, session: Session) -> None:
        """Give *session* what a checkpoint holds of it; once, for the next fit is another."""
        resumed, self._resumed = self._resumed, None
        if resumed is not None:
            session.restore(resumed)

    # -- parts ---------------------------------------------------------------------------

    def _elsewhere(self) -> bool:
        """Say whether these are the events of lr_find, validate, get_preds, predict or tta."""
        fit = self._fit
        # A fit that has no `Learner.fit` in it, of a subclass, is taken at its word.
        other = fit is None or current_fit(self.learn) not in (fit, None)
        return other or fit.within > 0 or infers(self.learn)

    def _run_or_none(self) -> Any | None:
        with contextlib.suppress(NoRun):
            return self._session.run if self._session else current_run("", self._run)
        return None

    def _begin(self) -> None:
        run = current_run("WandbCallback", self._run)
        if run is None:
            return
        with untouched_random_state(), self._warner.guarded("training"):
            session = Session(run, self.learn, self._heard, self.log_every, _SECONDS)
            keep_late_rows(run)
            self._session = session
            self._sizes_due = True
            self._restore_session(session)
            self._log_start(session)

    def _log_start(self, session: Session) -> None:
        with self._warner.guarded("configuration"):
            if not session.prefix:
                session.run.config.update(describe_learner(self.learn), allow_val_change=True)
        if self.log_dataset and session.main:
            with self._warner.guarded("dataset", 'Give its folder as log_dataset="folder".'):
                folder = dataset_folder(self.log_dataset, self.learn.dls)
                by_reference = self.dataset_reference
                log_dataset(folder, self.dataset_name, reference=by_reference, run=session.run)
        if self.log_preds and session.main:
            with self._warner.guarded("prediction samples", "Give them as valid_dl=..."):
                loader = self._fetched[1] if self._fetched is not None else self.valid_dl
                given = (loader, self.n_preds, self.seed)
                session.samples = Samples(self.learn, self._warner, *given)

    def _fetch(self) -> None:
        """Give a subclass that overrides `log_predictions` what fastai's callback would give it."""
        theirs = any(isinstance(cb, FetchPredsCallback) for cb in self.learn.cbs)
        # Another process, which may have no such callback, would be waited for.
        if world_size() == 1 and not theirs and self._run_or_none() is not None:
            loader = self.valid_dl or sample(self.learn.dls, self.n_preds, self.seed)
            self._fetched = Fetched(loader, reorder=self.reorder), self.valid_dl
            self.valid_dl = loader
            self.learn.add_cb(self._fetched[0])

    def _watch(self, step: str, **options: Any) -> None:
        """Let the samples take the next *step* of what they keep."""
        samples = self._session.samples if self._session is not None else None
        if samples is not None:
            with self._warner.guarded("prediction samples"):
                getattr(samples, step)(**options)

    def _log_sizes(self, session: Session) -> None:
        self._sizes_due = False
        with self._warner.guarded("configuration"):
            if not session.prefix:
                session.run.config.update(describe_batch(self.learn.xb), allow_val_change=True)

    def log_predictions(self) -> None:
        """Log the table now, as fastai's method of this name; subclasses may override it."""
        session = self._session
        if session is None or session.samples is None or not session.alive:
            return
        with untouched_random_state(), self._warner.guarded("prediction samples"):
            values = session.samples.table()
            if values:
                session.log("prediction samples", values)

    def _call_log_predictions(self) -> None:
        with untouched_random_state(), self._warner.guarded("prediction samples"):
            self.log_predictions()

    def _log_end(self) -> None:
        if not self.log_preds_every_epoch:
            self._call_log_predictions()
        session = self._session
        if session is None or session.samples is None or not session.alive:
            return
        with untouched_random_state(), self._warner.guarded("charts"):
            values = {}
            for key, draw in session.samples.charts().items():
                with self._warner.guarded(f"chart {key}", _REMEDIES.get(key, "")):
                    values[key] = draw()
            if values:
                session.log("charts", values)

    def _ensure_saver(self, *, started: bool = False) -> None:
        with self._warner.guarded("model", "Add a SaveModelCallback."):
            learn = self.learn
            saver = saver_of(learn)
            if saver is not None:
                if self.model_name is not None:
                    saver.fname = self.model_name
                return
            if not validates(learn):
                return  # Nothing to be best at: the last model is saved at the end.
            options = {"fname": self.model_name or "model"}
            saver = BestModelCallback(self._warner, self._value, **options)
            learn.add_cb(saver)
            if started:
                self._own_saver = saver
                saver("before_fit")

    def _value(self, monitor: str) -> float | None:
        """Return the value of a metric in the epoch that has just ended."""
        return self._heard.value(monitor) if self._heard is not None else None

    def _end(self) -> None:
        if self._session is not None:
            self._watch("end_validation")
            self._session.close()
        if self._heard is not None:
            self._heard.close()
        if self._own_saver is not None and self._fit is not None:
            self._fit.learn.remove_cb(self._own_saver)
        if self._fetched is not None and self._fit is not None:
            fetched, self.valid_dl = self._fetched
            self._fit.learn.remove_cb(fetched)
        for name in ("_fetched", "_session", "_heard", "_own_saver", "_fit"):
            self.__dict__[name] = None


# What an event means to the callback, besides its handler of that name.
_ACTS = {
    "before_train": WandbCallback._on_train,
    "before_step": WandbCallback._on_step,
    "after_train": WandbCallback._on_trained,
    "before_validate": WandbCallback._on_validate,
    "after_validate": WandbCallback._on_validated,
    "after_cancel_fit": WandbCallback._on_cancel_fit,
}
