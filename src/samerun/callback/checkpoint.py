"""Save the best model of a fit, and log it."""

from __future__ import annotations

from typing import Any

from fastai.callback.tracker import SaveModelCallback

from samerun.callback.artifacts import log_model
from samerun.callback.metrics import best_is_min
from samerun.callback.session import Session, saved_file


class BestModelCallback(SaveModelCallback):
    """
    Save the best model, as ``SaveModelCallback`` does, but never end a training.

    Without one finite ``valid_loss`` nothing is saved, and loading at the end would raise,
    or load a file of an earlier training.
    """

    @property
    def name(self) -> str:
        """Return the name that fastai's own callback has on the learner."""
        return "save_model"

    def before_fit(self) -> None:
        """Forget the file of the last training."""
        super().before_fit()
        self.last_saved_path = None

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
    log_model(path, name=str(name), metadata=metadata, aliases=aliases)


def _is_best(session: Session, saver: Any, metadata: dict[str, Any]) -> bool:
    monitor = getattr(saver, "monitor", "valid_loss")
    value, best = metadata.get(monitor), session.progress.best.get(monitor)
    if value is None or best is None:
        return False
    return bool(value <= best if best_is_min(monitor) else value >= best)
