"""Make worker processes of data loaders ignore signals, which the training handles."""

import signal
from typing import Any

from samerun.train.checkpoint.stopping import SIGNALS


def install(load: Any) -> None:
    """
    Make workers of the loaders of ``fastai.data.load`` ignore signals to stop.

    A signal to the process group would kill the workers, and thereby end the training before
    it writes its checkpoint.
    """
    original = load.DataLoader.wif

    def wif(self: Any, *args: Any, **kwargs: Any) -> Any:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        return original(self, *args, **kwargs)

    load.DataLoader.wif = wif
