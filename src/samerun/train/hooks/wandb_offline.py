"""
Record a W&B run offline where the server can't be reached; `invoke sync` uploads it later.

wandb-core names the stream of messages of a run by the run's id, and keeps that of a run that
could not begin, because closing it waits for the server. So the offline run has a stream of
another name: it keeps its id, and no other run of the process is disturbed.
"""

import functools
import threading
from typing import Any

# The W&B run that wandb-core was last told to begin: a failed ``init`` does not return it.
_last: str | None = None
# How often each W&B run could not begin, and the streams of those that are recorded offline.
_failed: dict[str, int] = {}
_streams: dict[str, str] = {}
# Whether this thread asks for what a run needs, whose key the server has seen.
_of_run = threading.local()


def install(wandb: Any) -> None:
    """Let ``wandb.init`` of the module *wandb* go on offline, whatever id and resume it has."""
    _name_streams(wandb.sdk.lib.service.service_connection.ServiceConnection)
    _extend_login(wandb)
    _trust_key(wandb)
    original = wandb.init

    @functools.wraps(original)
    def init(*args: Any, **kwargs: Any) -> Any:
        global _last
        _last = None
        try:
            return original(*args, **kwargs)
        except wandb.errors.UsageError:  # The script's own mistake.
            raise
        except (wandb.errors.Error, TimeoutError, ConnectionError) as error:
            reason = _reason(error)
        wandb.termwarn(f"W&B can't be reached ({reason}); this run is recorded offline.")
        if _last is not None:
            _failed[_last] = _failed.get(_last, 0) + 1
        return original(*args, **{**kwargs, "mode": "offline"})

    wandb.init = init


def _extend_login(wandb: Any) -> None:
    original = wandb.login

    @functools.wraps(original)
    def login(*args: Any, **kwargs: Any) -> Any:
        try:
            return original(*args, **kwargs)
        except wandb.errors.CommError as error:
            wandb.termwarn(f"W&B's login has failed ({_reason(error)}).")
            return False

    wandb.login = login


def _trust_key(wandb: Any) -> None:
    """
    Let a run not verify its key once more, as it began with it.

    `Run.log_artifact` does so after it has passed the first artifact on: a server that has gone
    since would end the training.
    """
    login, run = wandb.sdk.wandb_login, wandb.sdk.wandb_run.Run
    verify, public_api = login._verify_login, run._public_api

    @functools.wraps(verify)
    def verify_login(*args: Any, **kwargs: Any) -> None:
        if not getattr(_of_run, "asks", False):
            verify(*args, **kwargs)

    @functools.wraps(public_api)
    def of_run(self: Any, *args: Any, **kwargs: Any) -> Any:
        _of_run.asks = True
        try:
            return public_api(self, *args, **kwargs)
        finally:
            _of_run.asks = False

    login._verify_login, run._public_api = verify_login, of_run


def _reason(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _name_streams(service: Any) -> None:
    """Extend the class *service*, wandb's connection to wandb-core."""
    begin, finish, attach = service.inform_init, service.inform_finish, service.inform_attach

    @functools.wraps(begin)
    def inform_init(self: Any, settings: Any, run_id: str) -> Any:
        global _last
        _last = run_id
        if run_id in _failed:
            _streams[run_id] = f"{run_id}-{_failed[run_id]}"
        return begin(self, settings=settings, run_id=_streams.get(run_id, run_id))

    @functools.wraps(finish)
    def inform_finish(self: Any, run_id: str) -> Any:
        return finish(self, run_id=_streams.get(run_id, run_id))

    @functools.wraps(attach)
    def inform_attach(self: Any, attach_id: str) -> Any:
        return attach(self, attach_id=_streams.get(attach_id, attach_id))

    service.inform_init, service.inform_finish = inform_init, inform_finish
    service.inform_attach = inform_attach
