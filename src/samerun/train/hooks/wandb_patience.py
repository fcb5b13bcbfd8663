"""
End the wait for a W&B server that has gone for good.

wandb's own limit, WANDB_FINISH_TIMEOUT, begins when wandb-core 0.31 has sent all artifacts, which
it tries for ever. So from the end of a run on the server is asked every few seconds; when it has
given no answer for as long as that limit, wandb-core is left. A slow upload goes on.
"""

import atexit
import contextlib
import functools
import os
import sys
import threading
import time
import urllib.error
import urllib.request
from typing import Any

from samerun.core import contract
from samerun.train.report.quiet import quietly

VARIABLE = "WANDB_FINISH_TIMEOUT"
_INTERVAL_S, _ANSWER_S = 5.0, 10.0
_FAILING = 500  # The lowest status with which a server says that it can't answer.

# Set when a run begins to finish; the process that watches.
_ends = threading.Event()
_watching = 0
gave_up = False


def install(wandb: Any) -> None:
    """Let no run of the module *wandb* wait for ever at its end."""
    os.environ.setdefault(VARIABLE, str(contract.FINISH_TIMEOUT_S))
    run_class = wandb.sdk.wandb_run.Run
    original, end = wandb.init, run_class._finish

    @functools.wraps(original)
    def init(*args: Any, **kwargs: Any) -> Any:
        run = original(*args, **kwargs)
        quietly("watch the end of the W&B run", _watch, wandb, run)
        return run

    @functools.wraps(end)
    def finish(*args: Any, **kwargs: Any) -> Any:
        _ends.set()
        return end(*args, **kwargs)

    wandb.init, run_class._finish = init, finish


def _watch(wandb: Any, run: Any) -> None:
    """Start to watch, once in this process: at the exit of Python no thread can be started."""
    global _watching
    limit = float(os.environ[VARIABLE])
    if run.disabled or run.offline or limit <= 0 or _watching == os.getpid():
        return
    _watching = os.getpid()
    _ends.clear()  # That of a parent process.
    atexit.register(_ends.set)
    wait = functools.partial(_wait, wandb, run.settings.base_url, limit)
    name = "samerun-wandb-patience"
    threading.Thread(target=quietly, args=("watch W&B", wait), name=name, daemon=True).start()


def _wait(wandb: Any, url: str, limit: float) -> None:
    _ends.wait()
    heard = time.monotonic()
    while time.monotonic() - heard < limit:
        time.sleep(min(_INTERVAL_S, limit))
        if _answers(url):
            heard = time.monotonic()
    _leave(wandb, url, limit)


def _answers(url: str) -> bool:
    """Whether the server at *url* gives any answer; what it says is not for us."""
    request = urllib.request.Request(  # noqa: S310 - wandb has opened it before
        f"{url}/graphql", b"{}", {"Content-Type": "application/json"}
    )
    try:
        urllib.request.urlopen(request, timeout=_ANSWER_S).close()  # noqa: S310
    except urllib.error.HTTPError as error:
        return error.code < _FAILING
    except urllib.error.URLError as error:
        # wandb-core knows other certificates.
        return "CERTIFICATE_VERIFY_FAILED" in str(error.reason)
    except OSError:
        return False
    return True


def _leave(wandb: Any, url: str, limit: float) -> None:
    """End wandb-core, or the connection to that of a parent; whoever waits for it goes on."""
    global gave_up
    gave_up = True
    sys.stderr.write(
        f"samerun: W&B ({url}) has not answered for {limit:g} s at the end of the run, so the run "
        "ends. What is missing there is on disk, and `invoke sync` uploads it.\n"
    )
    service = wandb.setup().assert_service()
    if service._proc is None:
        service._asyncer.run(service._client.close)
    else:
        if service._cleanup:  # It would say good-bye to it at exit.
            service._cleanup()
        service._proc._process.kill()
        with contextlib.suppress(Exception):  # It has a thread that would talk to it.
            service._finalizer.close()
