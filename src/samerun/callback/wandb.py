"""The callback that takes the place of ``fastai.callback.wandb.WandbCallback``."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import Any, Literal

from fastai.callback.core import Callback
from fastai.callback.tracker import SaveModelCallback

from samerun.callback.artifacts import log_dataset, log_model
from samerun.callback.checkpoint import BestModelCallback, log_saved_model
from samerun.callback.config import describe_batch, describe_learner
from samerun.callback.distributed import NoRun, bare, current_run
from samerun.callback.guard import EpochGuard
from samerun.callback.media.samples import Samples
from samerun.callback.media.tables import wandb_process
from samerun.callback.rng import untouched_random_state
from samerun.callback.session import Session
from samerun.callback.stream.late_rows import keep_late_rows
from samerun.callback.stream.progress import progress_of
from samerun.callback.warn import Warner

__all__ = ["WandbCallback", "log_dataset", "log_model", "wandb_process"]

# Rows wait for this many steps, or seconds, before they are handed over.
_EVERY, _SECONDS = 64, 5.0
_CURVES = "Curves need scikit-learn, and validation items of at least two classes."
_REMEDIES = {"roc_curve": _CURVES, "pr_curve": _CURVES}


class WandbCallback(Callback):
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

    Raises:
        NoRun: On ``fit``, if ``wandb.init`` was not called. Other processes of a distributed
            job stay silent instead.
    """

    # After SaveModelCallback and EarlyStopping: the best model is saved, or loaded, by then.
    order, remove_on_fetch, run_valid = SaveModelCallback.order + 9, True, False

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
    ) -> None:
        self.log, self.log_freq, self.log_every = log, log_freq, log_every
        self.log_preds, self.log_preds_every_epoch = log_preds, log_preds_every_epoch
        self.log_model, self.model_name = log_model, model_name
        self.log_dataset, self.dataset_name = log_dataset, dataset_name
        self.valid_dl, self.n_preds, self.seed, self.reorder = valid_dl, n_preds, seed, reorder
        self.log_grad_norm, self.dataset_reference = log_grad_norm, dataset_reference
        self._reset()

    def _reset(self) -> None:
        self._session: Session | None = None
        self._warner = Warner()
        self._own_saver: Callback | None = None
        self._sizes_due = True
        self._resumed: dict[str, Any] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave run and data out of ``learn.export()``."""
        state = super().__getstate__()
        gone = ("_session", "_warner", "_own_saver", "_sizes_due", "_resumed")
        return {k: None if k == "valid_dl" else v for k, v in state.items() if k not in gone}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the callback out of an export, without a run."""
        super().__setstate__(state)
        self._reset()

    def __call__(self, event_name: str) -> Any:
        """Call the handler of *event_name*, in no time if there is none: 20 come per batch."""
        if getattr(type(self), event_name, None) is None:
            return None
        return super().__call__(event_name)

    # -- the life of a fit ---------------------------------------------------------------

    def after_create(self) -> None:
        """Add what saves the best model, if the learner does not have it."""
        if self.log_model:
            self._ensure_saver()

    def before_fit(self) -> None:
        """Get ready. Whether this is a training shows only at its first batch."""
        self._drop_session()
        if self._elsewhere():
            return
        EpochGuard.install(self.learn, self._abort)
        if self.log_model and current_run("WandbCallback") is not None:
            # Passed to fit(), the callback was never told of the learner's creation.
            self._ensure_saver(started=True)

    def before_train(self) -> None:
        """Begin to log, at the first epoch that trains."""
        if self._elsewhere():
            return
        if self._session is None:
            self._begin()
        if self._session is not None:
            self._session.begin_epoch()

    def before_step(self) -> None:
        """Look at the gradients as the optimizer is about to use them."""
        session = self._session
        if session is None:
            return
        if self.log_grad_norm:
            with self._warner.guarded("gradient norm"):
                session.extra = {"grad_norm": _grad_norm(self.learn.model)}
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
        session.end_epoch()
        session.close_epoch()
        if self.log_preds and self.log_preds_every_epoch:
            self._call_log_predictions()

    def after_fit(self) -> None:
        """Log predictions, charts and the model, and let go of the run."""
        if self._elsewhere():
            return
        session = self._session
        if session is not None:
            self._close_broken_epoch(session)
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
            run = session.run if session else current_run("WandbCallback")
            if run is not None:
                fit = session.state() if session else None
                return {"progress": dataclasses.asdict(progress_of(run)), "fit": fit}
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """
        Go on from what `state_dict` returned, in a run that was resumed.

        Before the first batch and, where a training goes on inside an epoch, once more when
        the epoch has begun: that sets its own counters.
        """
        with self._warner.guarded("place in the run"), contextlib.suppress(NoRun):
            run = current_run("WandbCallback")
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
        learn = self.learn
        lock = getattr(learn, "lock", None)
        fetching = lock is not None and lock.locked()
        return fetching or hasattr(learn, "lr_finder") or hasattr(learn, "gather_preds")

    def _begin(self) -> None:
        run = current_run("WandbCallback")
        if run is None:
            return
        with untouched_random_state(), self._warner.guarded("training"):
            session = Session(run, self.learn, self._warner, self.log_every, _SECONDS)
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
                folder, by_reference = self._dataset_folder(), self.dataset_reference
                log_dataset(folder, self.dataset_name, reference=by_reference)
        if self.log_preds and session.main:
            with self._warner.guarded("prediction samples", "Give them as valid_dl=..."):
                session.samples = Samples(self.learn, self.valid_dl, self.n_preds, self.seed)

    def _dataset_folder(self) -> Path:
        if not isinstance(self.log_dataset, bool):
            return Path(self.log_dataset)
        folder = Path(self.learn.dls.path)
        if folder == Path():
            msg = "the data loaders have no path"
            raise ValueError(msg)
        return folder

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
            values = session.samples.table(self.learn)
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
            for key, draw in session.samples.charts(self.learn).items():
                with self._warner.guarded(f"chart {key}", _REMEDIES.get(key, "")):
                    values[key] = draw()
            if values:
                session.log("charts", values)

    def _close_broken_epoch(self, session: Session) -> None:
        """Log an epoch that early stopping, or a canceled fit, ended before ``after_epoch``."""
        if session.open_epoch is None:
            return
        metrics = session.end_epoch()
        session.close_epoch(complete=bool(metrics))

    def _ensure_saver(self, *, started: bool = False) -> None:
        learn = self.learn
        if hasattr(learn, "save_model"):
            if self.model_name is not None:
                learn.save_model.fname = self.model_name
            return
        if not len(learn.dls.valid_ds):
            return  # Nothing to be best at: the last model is saved at the end.
        saver = BestModelCallback(self._warner, fname=self.model_name or "model")
        learn.add_cb(saver)
        if started:
            self._own_saver = saver
            saver("before_fit")

    def _abort(self) -> None:
        """Tidy up after an exception or Ctrl-C, of which fastai tells no callback."""
        session = self._session
        if session is not None:
            with self._warner.guarded("last rows"):
                session.close_epoch(complete=False)
        self._end()

    def _end(self) -> None:
        EpochGuard.remove(self.learn)
        self._drop_session()
        if self._own_saver is not None:
            self.learn.remove_cb(self._own_saver)
            self._own_saver = None

    def _drop_session(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None


def _grad_norm(model: Any) -> Any:
    import torch

    grads = [p.grad for p in bare(model).parameters() if p.grad is not None]
    return torch.nn.utils.get_total_norm(grads).detach() if grads else None
