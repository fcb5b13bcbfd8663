"""Worker processes of data loaders leave signals to the training."""

import signal
from typing import Any

from samerun.train.checkpoint.stopping import SIGNALS


def install(load: Any) -> None:
    """
    Let workers of the loaders of ``fastai.data.load`` ignore what asks the training to stop.

    A signal to the whole group would kill them, and their end the training, before the
    checkpoint is written.
    """
    original = load.DataLoader.wif

    def wif(self: Any, *args: Any, **kwargs: Any) -> Any:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        return original(self, *args, **kwargs)

    load.DataLoader.wif = wif
