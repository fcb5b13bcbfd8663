"""
Hand rows over to W&B in bulk.

Each ``run.log`` of wandb 0.31 is a round trip between two threads
(``AsyncioManager.run``), which costs more than everything else in it.
Here one round trip carries all rows. No row has a ``step``: wandb-core numbers
them on arrival, so that rows of other code in the same run never collide.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

Row = dict[str, Any]

# Each is called with the run and rows that are about to be sent, and returns those to send:
# what resumes trainings keeps back rows that the run has already.
filters: list[Callable[[Any, Sequence[Row]], Sequence[Row]]] = []


class Handover:
    """Send rows of floats, integers and strings to one run."""

    def __init__(self, run: Any) -> None:
        self._run = run
        self._bulk = _speaks_bulk(run)

    def send(self, rows: Sequence[Row]) -> None:
        """
        Send *rows* in order; each becomes one row of the run's history.

        Raises:
            Exception: Whatever wandb raises when its process is gone or the run is finished.
        """
        for admit in filters:
            rows = admit(self._run, rows)
        if not rows:
            return
        if self._bulk and self._run._init_pid == os.getpid():
            self._send_bulk(rows)
        else:
            for row in rows:
                self._run.log(row)

    def _send_bulk(self, rows: Sequence[Row]) -> None:
        interface = self._run._interface
        requests = [_request(row, interface._stream_id) for row in rows]
        if self._run._telemetry_obj.feature.set_step_log:
            # Someone logs with step=: their row is still open, and would swallow our first one.
            requests.insert(0, _flush_request(interface._stream_id))

        async def publish() -> None:
            for request in requests:
                await interface._client.publish(request)

        interface._asyncer.run(publish)


def _speaks_bulk(run: Any) -> bool:
    """Say whether *run* has the internals of wandb 0.31 that bulk needs, and nothing in the way."""
    try:
        import wandb
        from wandb.sdk.interface.interface_sock import InterfaceSock

        interface = run._interface
        return (
            isinstance(interface, InterfaceSock)
            and isinstance(interface._stream_id, str)
            and callable(interface._client.publish)
            and callable(interface._asyncer.run)
            and run._settings.x_history_value_encoding == "json"
            # With TensorBoard patched, wandb gives steps another meaning.
            and not wandb.patched["tensorboard"]
            and isinstance(run._init_pid, int)
            and isinstance(run._telemetry_obj.feature.set_step_log, bool)
            and _request({"probe": 1.0}, "probe").ByteSize() > 0
        )
    except Exception:
        return False


def _request(row: Row, stream: str) -> Any:
    """Build the message that ``run.log(row)`` would send."""
    request = _new_request()
    record = request.record_publish
    record._info.stream_id = stream
    add = record.request.partial_history.item.add
    for key, value in row.items():
        add(key=key, value_json=_json(value))
    if "_timestamp" not in row:
        add(key="_timestamp", value_json=repr(time.time()))
    return request


def _new_request() -> Any:
    from wandb.proto import wandb_server_pb2

    messages: Any = wandb_server_pb2
    return messages.ServerRequest()


def _flush_request(stream: str) -> Any:
    """Build the message that closes a row someone left open."""
    request = _new_request()
    record = request.record_publish
    record._info.stream_id = stream
    record.request.partial_history.action.flush = True
    return request


def _json(value: Any) -> str:
    # repr is json.dumps for finite floats, at a tenth of the cost.
    if type(value) is float and value - value == 0.0:
        return repr(value)
    return json.dumps(value)
