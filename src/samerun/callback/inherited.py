"""What subclasses that were written for fastai's callback ask for by fastai's names."""

from typing import Any

from samerun.callback.stream.progress import progress_of


class FastaiNames:
    """
    The attributes and handlers that fastai's callback has, and ours has no use for.

    ``_run_or_none`` is the callback's own.
    """

    def _run_or_none(self) -> Any | None:
        raise NotImplementedError

    @property
    def _wandb_step(self) -> int:
        """Return the step that fastai's callback would log at; subclasses of it ask for this."""
        run = self._run_or_none()
        return 0 if run is None else int(run.step)

    @_wandb_step.setter
    def _wandb_step(self, value: int) -> None:
        """Take no notice: W&B numbers the rows."""

    @property
    def _wandb_epoch(self) -> float:
        """Return the passes over the data, as fastai's callback counts them."""
        run = self._run_or_none()
        return 0 if run is None else progress_of(run).epoch

    @_wandb_epoch.setter
    def _wandb_epoch(self, value: float) -> None:
        """Take no notice: each row has its own."""

    def before_batch(self) -> None:
        """Do nothing; subclasses of fastai's callback call it."""
