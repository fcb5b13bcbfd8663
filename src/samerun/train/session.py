"""The session of a recipe: seed, folders, configuration, and one W&B run."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samerun.core import contract
from samerun.train.report import reporting


@dataclass(frozen=True, kw_only=True)
class Session:
    """
    One training of a recipe.

    *data* is the mounted data folder, or None; *config* the recipe's options.
    """

    recipe: str
    config: dict[str, Any]
    seed: int
    output: Path
    data: Path | None
    rank: int
    world_size: int

    @property
    def is_main(self) -> bool:
        """Whether this process logs and writes files."""
        return self.rank == 0

    @contextlib.contextmanager
    def logged(self, learn: Any, **callback_options: Any) -> Iterator[Any]:
        """
        Context for training: one W&B run on the main process, one model for all processes.

        *callback_options* go to `samerun.callback.wandb.WandbCallback`.
        """
        from samerun.callback.wandb import WandbCallback

        with self._run(), self._distributed(learn):
            callbacks = [WandbCallback(**callback_options)] if self.is_main else []
            with learn.added_cbs(callbacks):
                yield learn

    def _run(self) -> contextlib.AbstractContextManager[Any]:
        return start_run(self.config) if self.is_main else contextlib.nullcontext()

    def _distributed(self, learn: Any) -> contextlib.AbstractContextManager[Any]:
        if self.world_size == 1:
            return contextlib.nullcontext()
        from fastai import distributed  # noqa: F401 - adds Learner.distrib_ctx

        context: contextlib.AbstractContextManager[Any] = learn.distrib_ctx(sync_bn=False)
        return context


def start_run(config: dict[str, Any]) -> Any:
    """Start a W&B run; if W&B can't be reached, `wandb_sign` makes it an offline run."""
    import wandb

    # Offline, wandb's closing lines show paths in the container; the host prints its own.
    quiet = os.environ.get("WANDB_MODE") == "offline"
    return wandb.init(config=config, settings=wandb.Settings(quiet=quiet))


def current(recipe: str, config: dict[str, Any], seed: int) -> Session:
    """Return the session of this process, from the environment that the launcher set."""
    data = os.environ.get(contract.ENV_DATA)
    return Session(
        recipe=recipe,
        config=config,
        seed=seed,
        output=Path.cwd(),
        data=Path(data) if data else None,
        rank=reporting.rank(),
        world_size=reporting.processes(),
    )
