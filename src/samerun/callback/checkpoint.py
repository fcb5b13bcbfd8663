"""Save the best model of a fit, and log it."""

from __future__ import annotations

from typing import Any

from fastai.callback.tracker import SaveModelCallback

from samerun.callback.artifacts import model_artifact
from samerun.callback.session import Session, saved_file
from samerun.callback.stream.metrics import best_is_min
from samerun.callback.warn import Warner


class BestModelCallback(SaveModelCallback):
    """
    Save the best model, as ``SaveModelCallback`` does, but never end a training.

    Without one finite ``valid_loss`` nothing is saved, and loading at the end would raise,
    or load a file of an earlier training. Where a file can't be written, because the disk is
    full, say, the training ends with the last model.

    Args:
        warner: Tells of a file that can't be written.
        **options: Those of ``SaveModelCallback``.
    """

    def __init__(self, warner: Warner, **options: Any) -> None:
        super().__init__(**options)
        self._warner, self.failed = warner, False

    @property
    def name(self) -> str:
        """Return the name that fastai's own callback has on the learner."""
        return "save_model"

    def before_fit(self) -> None:
        """Forget the file of the last training."""
        super().before_fit()
        self.last_saved_path, self.failed = None, False

    def _save(self, name: str) -> None:
        # torch.save empties the file first: after a failure the earlier model is lost as well.
        self.last_saved_path, self.failed = None, True
        with self._warner.guarded("model", "Training goes on, and ends with the last model."):
            super()._save(name)
            self.failed = False

    def after_fit(self, **_: Any) -> None:
        """Load the best model, if there is one."""
        if self.last_saved_path is not None:
            super().after_fit()


def log_saved_model(session: Session, model_name: str | None) -> None:
    """
    Log the file that the fit saved, with the metrics of the epoch it is from.

    Args:
        session: The fit.
        model_name: Name of the artifact; None: the name of the file.
    """
    learn = session.learn
    saver = getattr(learn, "save_model", None)
    metadata = dict(session.saved or session.metrics)
    if getattr(saver, "failed", False):
        return  # and warned of
    if saver is None:
        path = learn.save(model_name or "model")
    elif getattr(saver, "at_end", False):
        path, metadata = saver.last_saved_path, dict(session.metrics)
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
    saver = vars(learn).get("save_model")
    keeps = getattr(saver, "at_end", False) or getattr(saver, "every_epoch", False)
    return saver is not None and session.saved is not None and not keeps


def _is_best(session: Session, saver: Any, metadata: dict[str, Any]) -> bool:
    monitor = getattr(saver, "monitor", "valid_loss")
    value, best = metadata.get(monitor), session.progress.best.get(monitor)
    if value is None or best is None:
        return False
    return bool(value <= best if best_is_min(monitor) else value >= best)
