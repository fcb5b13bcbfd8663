"""The stand-in on a port of loopback."""

from __future__ import annotations

import argparse
import signal
import socket
import sys
import threading
from collections.abc import Collection
from pathlib import Path
from typing import Any, Self

from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler
from werkzeug.serving import make_server as listen

from .app import App
from .faults import Fault
from .store import Store

HOST = "127.0.0.1"


class Quiet(WSGIRequestHandler):
    """Werkzeug's handler without a line for each request; a dropped connection is closed."""

    def log_request(self, *_: Any) -> None:
        """Print nothing: the store has a log."""

    def connection_dropped(self, *_: Any) -> None:
        """Wait for no further request, which HTTP/1.1 would let come."""
        self.close_connection = True


class Server:
    """
    A stand-in that listens; within ``with`` it also answers, in a thread.

    It answers until `shutdown`. While it is to refuse connections, it does not listen.
    """

    def __init__(self, store: Store, port: int, api_keys: Collection[str]) -> None:
        self.store = store
        self._app = App(store, api_keys, self._refuse, self._is_gone)
        self._stopped = threading.Event()
        self._refusal: Fault | None = None
        self._http = self._listen(port)
        self.port = self._http.port
        self.url = store.base = f"http://{HOST}:{self.port}"

    def __enter__(self) -> Self:
        """Answer, from now on."""
        self._thread = threading.Thread(target=self.serve_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop, and wait for the end."""
        self.shutdown()
        self._thread.join()

    def serve_forever(self) -> None:
        """Answer until `shutdown`."""
        while not self._stopped.is_set():
            if self._is_gone():
                self._stay_away()
            else:
                self._http.handle_request()
        self._http.server_close()

    def shutdown(self) -> None:
        """Answer no more."""
        self._stopped.set()

    def _listen(self, port: int) -> BaseWSGIServer:
        http = listen(HOST, port, self._app, threaded=True, request_handler=Quiet)
        http.timeout = 0.05  # How long one `handle_request` waits for a request.
        return http

    def _refuse(self, fault: Fault) -> None:
        self._refusal = fault

    def _is_gone(self) -> bool:
        refuses = self._refusal is not None and self._refusal.goes_on(self.store.faults)
        return refuses or self._stopped.is_set()

    def _stay_away(self) -> None:
        """Refuse connections until it is time to listen."""
        self._http.server_close()
        with socket.socket() as held:  # The port stays ours, and nothing listens there.
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            held.bind((HOST, self.port))
            while not self._stopped.wait(0.01) and self._is_gone():
                pass
        self._http = self._listen(self.port)


def make_server(
    data: str | Path,
    *,
    port: int = 0,
    entity: str = "standin",
    api_keys: Collection[str] = (),
    **options: Any,
) -> Server:
    """Return a stand-in that keeps its state in *data*; *options* are those of `Store`."""
    return Server(Store(data, entity, **options), port, api_keys)


def main() -> None:
    """Print the address and serve, as the command line says."""
    parser = argparse.ArgumentParser(description="A stand-in W&B server for tests, on loopback.")
    parser.add_argument("--port", type=int, default=8765)
    parser.add_argument("--data", default="wbserver-data")
    parser.add_argument("--entity", default="standin")
    parser.add_argument("--api-key", dest="api_keys", action="append", default=[])
    parser.add_argument("--crash-after", type=float, default=300.0)
    parser.add_argument("--report-line-count", action="store_true")
    server = make_server(**vars(parser.parse_args()))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print(server.url, flush=True)
    server.serve_forever()
