"""One fit that is logged to one run."""

from __future__ import annotations

import math
import tempfile
import time
from pathlib import Path
from typing import Any

from samerun.callback.distributed import bare, key_prefix, rank
from samerun.callback.fits import saver_of
from samerun.callback.histograms import What, histograms
from samerun.callback.media.batches import items_of
from samerun.callback.stream.background import Courier
from samerun.callback.stream.bulk import Handover, Row
from samerun.callback.stream.heard import Heard
from samerun.callback.stream.metrics import smaller_is_better
from samerun.callback.stream.progress import progress_of
from samerun.callback.stream.rows import RowBuffer, Step

# A gradient histogram of a ResNet takes seconds: 20 per fit, and one in 1000 steps at least.
_HISTOGRAMS, _FEWEST_STEPS = 20, 1000
# How long a training waits for a server that does not answer.
_PATIENCE_S = 10.0
# Two blocks of the file that wandb writes rows to.
_PROBE_BYTES = 2 * 32768


class Session:
    """
    Everything that lives from the first training batch of a fit to its end.

    Plain attributes of a plain object: setting one on a fastai callback asks the learner
    and the model first whether they have it, which takes longer than logging.
    """

    def __init__(self, run: Any, learn: Any, heard: Heard, every: int, seconds: float) -> None:
        self.run, self.learn, self.heard, self.warner = run, learn, heard, heard.warner
        self.prefix = key_prefix(run)
        self.main = rank() == 0
        self.alive = True
        self.progress = progress_of(run)
        self.offset = self.progress.begin(learn.epoch, len(learn.dls.train))
        self.buffer = RowBuffer(Handover(run), self.prefix, every, seconds)
        self._histograms: dict[str, Any] = {}
        self._since_histograms = 0
        self._first_epoch = self._next_epoch = learn.epoch
        self.courier = Courier(run, self.warner, threaded=not run.offline, patience_s=_PATIENCE_S)
        self.samples: Any = None
        self.open_epoch: int | None = None
        # In the training of an epoch; in a step whose `after_batch` has not come to us yet.
        self.trains = self._in_step = False
        # The step's loss; what another callback predicted since has taken its place, or that of
        # the batch, on the learner.
        self._loss: Any = None
        self._hears_steps = self._loss_gone = self._place_gone = False
        self.metrics: dict[str, Any] = {}
        # Those of the last epoch that has been validated, and of the one that was saved.
        self.last: dict[str, Any] = {}
        self.saved: dict[str, Any] | None = None
        self._saved_file = saved_file(learn)
        self._defined: set[str] = set()
        self._last_s = time.perf_counter()
        self.extra: dict[str, Any] | None = None

    def state(self) -> dict[str, Any]:
        """Return where the fit lies on the axes of the run, and the step not sent yet."""
        pending = self.buffer.pending() if self.alive else None
        return {
            "offset": self.offset,
            "pending": pending,
            "last": _numbers(self.last),
            "saved": None if self.saved is None else _numbers(self.saved),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from what `state` returned."""
        self.offset = state["offset"]
        self.buffer.restore(state["pending"])
        self.last, self.saved = state.get("last", {}), state.get("saved")
        self._saved_file = saved_file(self.learn)

    def begin_epoch(self) -> None:
        """Start the clock: validation is no part of the training throughput."""
        if self.open_epoch is not None:  # a subclass overrides `after_epoch`
            self.close_epoch()
        self.note_saved_model()  # by a callback that comes after ours
        self.metrics = {}
        # What another callback predicts in `before_epoch` sets the learner's number to 0.
        self.open_epoch = max(self.learn.epoch, self._next_epoch)
        self._next_epoch = self.open_epoch + 1
        self._iter, self._n_iter = -1, 0
        self.trains, self._in_step, self._place_gone = True, False, False
        self._last_s = time.perf_counter()

    def begin_step(self) -> None:
        """Take note of the loss that the step is made of."""
        self._in_step = self._hears_steps = True
        self._loss, self._loss_gone = self.learn.loss, False

    def note_prediction(self) -> None:
        """Take note that something else is validated or predicted between two batches."""
        self._place_gone, self._loss_gone = True, self._in_step or not self._hears_steps

    def end_training(self) -> None:
        """Keep a step after which another callback ended training, before we heard of its end."""
        if self._in_step:
            with self.warner.guarded("row of a step"):
                self.add_step()
        self.trains = False

    def add_step(self) -> None:
        """Keep the step that just ended. Nothing here waits for the device."""
        learn, progress, self._in_step = self.learn, self.progress, False
        if getattr(self.run, "_is_finished", False):
            self._give_up("it was finished")
            return
        now = time.perf_counter()
        elapsed, self._last_s = now - self._last_s, now
        timed = not self._place_gone
        raw_loss = self._look()
        progress.epoch = self.offset + (self.open_epoch or 0) + (self._iter + 1) / self._n_iter
        step = Step(
            number=progress.steps,
            epoch=progress.epoch,
            time_s=time.time(),
            raw_loss=raw_loss,
            smooth_loss=learn.__dict__.get("smooth_loss"),
            hypers=tuple([dict(group) for group in learn.opt.hypers]),
            samples_per_s=items_of(learn.xb, learn.yb) / max(elapsed, 1e-9) if timed else None,
            extra=self.extra,
        )
        self.extra = None
        progress.steps += 1
        self._send(self.buffer.add, step)
        if self._histograms:
            self._send_histograms()

    def _look(self) -> Any:
        """
        Count the batch, and return its loss.

        A callback that has just predicted or validated with the learner, between two batches,
        has left its own loss and place there: then it is the loss that the step was made of.
        """
        learn, gone = self.learn, self._place_gone
        if self._n_iter == 0:
            self._n_iter = self._batches() if gone else learn.n_iter
        self._iter = self._iter + 1 if gone else learn.iter
        loss = self._loss if gone and self._loss_gone else learn.loss
        # Nothing of a step is kept but its value, not even until the next one.
        self._place_gone, self._loss = False, None
        return _detached(loss)

    def _batches(self) -> int:
        """Return how many batches an epoch has, where the learner's number is of something else."""
        try:
            return max(len(self.learn.dls.train), 1)
        except Exception:
            return self.learn.n_iter

    def _send_histograms(self) -> None:
        """Send histograms so that they share the row of the newest step."""
        values, self._histograms = self._histograms, {}
        self.send_but_last()
        with self.warner.guarded("gradients and parameters"):
            self.run.log(values, commit=False)
        if self._iter < self._n_iter - 1:  # else the metrics belong into the row too
            self._send(self.buffer.close_row, {})

    def send_but_last(self) -> None:
        """Send all but the newest step, so that what is logged now shares its row."""
        self._send(lambda _: self.buffer.send_older(), None)

    def close_epoch(self) -> None:
        """Send the rows of the epoch, its metrics with the last of them."""
        if self.open_epoch is None:
            return
        self.end_training()
        with self.warner.guarded("metrics of the epoch"):
            self.metrics = self.heard.metrics()
        self.progress.epoch = self.offset + self.open_epoch + 1
        self.last = {**self._monitored(), **self.metrics, "epoch": self.progress.epoch}
        self.note_saved_model()
        self._define(self.metrics)
        self._end_rows({**self.metrics, "epoch": self.progress.epoch})
        self._note_best()

    def break_epoch(self) -> bool:
        """Send the rows of an epoch that ends before its time; say whether it was validated."""
        if self.open_epoch is not None:
            self.end_training()
        validated = self.open_epoch is not None and self.heard.validated
        if validated:
            self.close_epoch()
        elif self.open_epoch is not None:
            self._end_rows({})
        return validated

    def _end_rows(self, last: Row) -> None:
        self.open_epoch = None
        self._send(self.buffer.close_row, last)
        self._check_disk()

    def _monitored(self) -> dict[str, Any]:
        """Return the value that the model is saved by, which may be none of the metrics."""
        saver = saver_of(self.learn)
        if saver is None:
            return {}
        value = self.heard.value(saver.monitor)
        return {} if value is None else {saver.monitor: value}

    def log(self, subject: str, values: dict[str, Any]) -> None:
        """
        Log tables and charts as a separate row.

        Args:
            subject: What they are, for the warning.
            values: What ``run.log`` takes.
        """
        axes = {"epoch": self.progress.epoch, "train_step": max(self.progress.steps - 1, 0)}
        self.courier.send(subject, lambda: self.run.log({**values, **axes}))

    def log_histograms(self, what: What, log_freq: int | None) -> None:
        """Log gradients and parameters, at every *log_freq*-th step of the fit."""
        learn = self.learn
        steps = max(1, len(learn.dls.train) * (learn.n_epoch - self._first_epoch))
        freq = log_freq or min(max(steps // _HISTOGRAMS, 1), _FEWEST_STEPS)
        self._since_histograms += 1
        if self._since_histograms % freq == 0 and self.alive:
            self._histograms = histograms(bare(learn.model), what)

    def close(self) -> None:
        """Send what is left."""
        self._send(self.buffer.close_row, {})
        self.courier.close()

    def _send(self, send: Any, what: Any) -> None:
        if not self.alive:
            return
        try:
            send(what)
        except Exception as error:
            self._give_up(error)

    def _give_up(self, reason: object) -> None:
        self.alive = False
        self.buffer.discard()
        self.warner.gone(reason)

    def _define(self, metrics: dict[str, Any]) -> None:
        new = [name for name in metrics if name not in self._defined]
        self._defined.update(new)
        if not new or not self.alive or self.prefix:
            return
        with self.warner.guarded("axes of the charts"):
            for name in new:
                self.run.define_metric(name, step_metric="epoch", step_sync=False)

    def _note_best(self) -> None:
        """Keep the best values in the summary, beside the last ones that W&B keeps there."""
        best, better = self.progress.best, {}
        for name, value in self.last.items():
            if name == "epoch" or not isinstance(value, int | float) or not math.isfinite(value):
                continue
            sign = 1 if smaller_is_better(name, self.learn.cbs) else -1
            if name not in best or sign * value < sign * best[name]:
                better[name] = best[name] = value
        if better and self.alive and not self.prefix:
            with self.warner.guarded("best values"):
                self.run.summary.update({f"best_{name}": value for name, value in better.items()})

    def _check_disk(self) -> None:
        """Warn where W&B can't write its files: wandb's process drops rows without a word."""
        with (
            self.warner.guarded("rows"),
            tempfile.TemporaryFile(dir=self.run.settings.sync_dir) as file,
        ):
            file.write(bytes(_PROBE_BYTES))

    def note_saved_model(self) -> None:
        """Look whether a model was saved since the last look, in the epoch that was the last."""
        file = saved_file(self.learn)
        if file is not None and file != self._saved_file:
            self._saved_file, self.saved = file, self.last
            if self.samples is not None:
                self.samples.model_saved()


def saved_file(learn: Any) -> tuple[Path, int] | None:
    """Return path and time of change of the last file that ``SaveModelCallback`` wrote."""
    path = getattr(saver_of(learn), "last_saved_path", None)
    if path is None or not Path(path).is_file():
        return None
    return Path(path), Path(path).stat().st_mtime_ns


def _numbers(values: dict[str, Any]) -> dict[str, Any]:
    """Return what a checkpoint can hold of *values*."""
    return {k: v for k, v in values.items() if v is None or type(v) in (bool, int, float, str)}


def _detached(loss: Any) -> Any:
    # Without detach() the graph of every kept step would stay in memory.
    return loss.detach() if hasattr(loss, "detach") else loss
