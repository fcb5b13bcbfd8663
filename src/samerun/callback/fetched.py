"""`learn.fetch_preds`, for subclasses whose `log_predictions` was written for fastai's callback."""

from __future__ import annotations

import random
import sys
from typing import Any

from fastai.callback.core import FetchPredsCallback

from samerun.callback.rng import untouched_random_state


class Fetched(FetchPredsCallback):
    """
    Predict the items of *dl* after each validation, as fastai's callback does.

    ``learn.fetch_preds.preds`` has inputs, predictions, targets and decoded predictions.
    """

    name = "fetch_preds"

    def __init__(self, dl: Any, *, reorder: bool) -> None:
        super().__init__(dl=dl, with_input=True, with_decoded=True, reorder=reorder)

    def after_validate(self) -> None:
        """Predict, and leave the random state as it was."""
        with untouched_random_state():
            super().after_validate()


def sample(dls: Any, n_preds: int, seed: int) -> Any:
    """Return a data loader of *n_preds* random items of the validation set, as fastai chooses."""
    valid = dls.valid_ds
    chosen = random.Random(seed).sample(range(len(valid)), min(n_preds, len(valid)))  # noqa: S311
    items = getattr(valid.items, "iloc", valid.items)
    tabular = sys.modules.get("fastai.tabular.data")
    if tabular is not None and isinstance(dls, tabular.TabularDataLoaders):
        return dls.test_dl(items[chosen], with_labels=True, process=False)
    return dls.test_dl([items[i] for i in chosen], with_labels=True)
