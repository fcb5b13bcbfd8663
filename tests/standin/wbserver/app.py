"""The stand-in as a WSGI application: what each address does."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import time
from collections.abc import Callable, Collection, Iterable
from functools import cached_property
from typing import Any

from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map, Rule
from werkzeug.wrappers import Request, Response

from . import files, stream, view
from .binding import Call, Refused, UnknownField, answer, is_mutation, operation
from .faults import Fault, claim
from .store import Store

URLS = Map(
    [
        Rule("/graphql", endpoint="graphql", methods=["POST"]),
        Rule("/files/<entity>/<project>/<run>/file_stream", endpoint="file_stream"),
        Rule("/storage/<path:key>", endpoint="storage"),
        Rule("/_admin/<what>", endpoint="admin"),
    ],
    merge_slashes=False,
)
# What tests may look at besides the state.
SHOWN = ("log", "unknown", "faults")


class Asked(Request):
    """A request as wandb sends them."""

    @cached_property
    def content(self) -> bytes:
        """The body, unpacked."""
        packed = self.headers.get("Content-Encoding") == "gzip"
        return gzip.decompress(self.get_data()) if packed else self.get_data()

    @property
    def is_shared(self) -> bool:
        """Whether it comes from one of several clients of a run."""
        return self.headers.get("X-WANDB-USE-ASYNC-FILESTREAM") == "true"

    @property
    def client(self) -> str | None:
        """Which of several clients of a run it comes from."""
        return self.headers.get("X-WANDB-ASYNC-CLIENT-ID") if self.is_shared else None

    @property
    def key(self) -> str:
        """The API key that it carries."""
        kind, _, key = self.headers.get("Authorization", "").partition(" ")
        return base64.b64decode(key).decode().partition(":")[2] if kind == "Basic" else key


class App:
    """
    What answers requests.

    Args:
        store: The state.
        api_keys: Keys that are let in; without any, every key is.
        refuse: What makes the server refuse connections as long as a fault goes on.
        is_gone: Whether the server refuses connections now, or has stopped.
    """

    def __init__(
        self,
        store: Store,
        api_keys: Collection[str],
        refuse: Callable[[Fault], None],
        is_gone: Callable[[], bool],
    ) -> None:
        self.store, self.api_keys = store, frozenset(api_keys)
        self.refuse, self.is_gone = refuse, is_gone

    def __call__(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        """Answer one request."""
        request = Asked(environ)
        request.get_data()  # Read also where no answer needs it, so that clients can send it.
        if self.is_gone():
            _drop()
        endpoint, parts = _route(request)
        if endpoint == "admin":
            return self._admin(request, **parts)(environ, start)
        entry = self._note(request, endpoint)
        with self.store.lock:
            fault = claim(self.store.faults, endpoint, entry.get("op"))
        wrong = self._go_wrong(fault) if fault else None
        response = wrong or self._answer(request, endpoint, parts)
        entry["status"] = response.status_code
        return response(environ, start)

    def _note(self, request: Asked, endpoint: str) -> dict[str, Any]:
        """Put a request into the log, which tells at once that it came."""
        entry = {"t": time.time(), "method": request.method, "path": request.path}
        entry["ua"] = request.headers.get("User-Agent")
        if endpoint == "graphql":
            entry["op"] = _operation_name(json.loads(request.content)["query"])
        with self.store.lock:
            self.store.log.append(entry)
        return entry

    def _answer(self, request: Asked, endpoint: str, parts: dict[str, str]) -> Response:
        if endpoint == "storage":  # Like a presigned address, it asks for no key.
            return self._storage(request, **parts)
        if endpoint == "other":
            return _json({"error": "not found"}, 404)
        if not (request.key in self.api_keys if self.api_keys else request.key):
            return _refusal("invalid API key", 401)
        if endpoint == "graphql":
            return self._graphql(request)
        return self._file_stream(request, **parts)

    def _go_wrong(self, fault: Fault) -> Response | None:
        time.sleep(fault.delay)
        if fault.refuse:
            self.refuse(fault)
            _drop()
        if fault.hang:
            self._hang(fault)
        if not fault.status:
            return None
        return Response(fault.body, fault.status, fault.headers, mimetype="application/json")

    def _hang(self, fault: Fault) -> None:
        while fault.goes_on(self.store.faults) and not self.is_gone():
            time.sleep(0.05)
        _drop()

    def _graphql(self, request: Asked) -> Response:
        asked = json.loads(request.content)
        query, call = asked["query"], Call(store=self.store, shared=request.is_shared)
        with self.store.lock:
            self.store.mark_crashed()
            try:
                data = answer(call, query, asked.get("variables"))
            except Refused as error:
                if isinstance(error, UnknownField):
                    self.store.unknown[f"{_operation_name(query)}: {error}"] = query
                return _refusal(str(error), 400)
            if is_mutation(query):
                self.store.save()
        return _json({"data": data})

    def _file_stream(self, request: Asked, entity: str, project: str, run: str) -> Response:
        with self.store.lock:
            found = self.store.run(entity, project, run)
            if found is None:
                return _json({"error": f"run {entity}/{project}/{run} not found"}, 404)
            reply = stream.receive(found, json.loads(request.content or b"{}"), request.client)
            self.store.save()
        return _json(reply)

    def _storage(self, request: Asked, key: str) -> Response:
        if request.method == "PUT":
            return self._put(key, request.content)
        path = self.store.blob_path(key)
        if not path.exists():
            return Response("no such object", 404)
        content = path.read_bytes()
        found = Response(content, mimetype="application/octet-stream")
        return found.make_conditional(request, accept_ranges=True, complete_length=len(content))

    def _put(self, key: str, content: bytes) -> Response:
        with self.store.lock:
            self.store.blob_path(key).write_bytes(content)
            if key.startswith("run/"):
                files.note_uploaded(self.store, key, content)
                self.store.save()
        return Response(headers={"ETag": hashlib.md5(content).hexdigest()})

    def _admin(self, request: Asked, what: str) -> Response:
        with self.store.lock:
            if what == "faults" and request.method == "POST":
                return self._set_faults(request)
            if what == "reset":
                self.store.reset()
                self.store.save()
            if what == "state":
                return _json(view.state(self.store))
            return _json(getattr(self.store, what) if what in SHOWN else {})

    def _set_faults(self, request: Asked) -> Response:
        try:
            self.store.faults = [Fault(**entry) for entry in json.loads(request.content)]
        except (TypeError, ValueError) as error:
            return _refusal(str(error), 400)
        return _json(self.store.faults)


def _route(request: Request) -> tuple[str, dict[str, Any]]:
    """Return what an address means; the areas of faults are named so, too."""
    try:
        return URLS.bind_to_environ(request.environ).match()
    except HTTPException:
        return "other", {}


def _operation_name(query: str) -> str | None:
    found = operation(query)
    return found.name.value if found and found.name else None


def _drop() -> None:
    """Close the connection without an answer: werkzeug does, as if the client had."""
    raise ConnectionAbortedError


def _json(content: Any, status: int = 200) -> Response:
    return Response(json.dumps(content, default=vars), status, mimetype="application/json")


def _refusal(message: str, status: int) -> Response:
    return _json({"errors": [{"message": message}]}, status)
