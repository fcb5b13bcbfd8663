"""The stand-in as a WSGI application: what each address does."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import time
from collections.abc import Callable, Collection, Iterable
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


class App:
    """
    What answers requests.

    Args:
        store: The state.
        api_keys: Keys that are let in; without any, every key is.
        refuse: What makes the server refuse connections for a number of seconds.
        is_gone: Whether the server refuses connections now, or has stopped.
    """

    def __init__(
        self,
        store: Store,
        api_keys: Collection[str],
        refuse: Callable[[float], None],
        is_gone: Callable[[], bool],
    ) -> None:
        self.store, self.api_keys = store, frozenset(api_keys)
        self.refuse, self.is_gone = refuse, is_gone

    def __call__(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        """Answer one request."""
        request = Request(environ)
        body = request.get_data()
        if request.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        if self.is_gone():
            _drop()
        endpoint, parts = _route(request)
        if endpoint == "admin":
            return self._admin(request, body, **parts)(environ, start)
        entry = self._note(request)
        response = self._answer(request, body, endpoint, parts, entry)
        entry["status"] = response.status_code
        return response(environ, start)

    def _note(self, request: Request) -> dict[str, Any]:
        """Put a request into the log, which tells at once that it came."""
        entry = {"t": time.time(), "method": request.method, "path": request.path}
        entry["ua"] = request.headers.get("User-Agent")
        with self.store.lock:
            self.store.log.append(entry)
        return entry

    def _answer(
        self,
        request: Request,
        body: bytes,
        endpoint: str,
        parts: dict[str, str],
        entry: dict[str, Any],
    ) -> Response:
        if endpoint == "graphql":
            entry["op"] = _operation_name(json.loads(body)["query"])
        with self.store.lock:
            fault = claim(self.store.faults, endpoint, entry.get("op"))
        if fault and (wrong := self._go_wrong(fault)):
            return wrong
        if endpoint == "other":
            return _json({"error": "not found"}, 404)
        # Like a presigned address, one of storage asks for no key.
        if endpoint != "storage" and not self._is_authorized(request):
            return _refusal("invalid API key", 401)
        return getattr(self, f"_{endpoint}")(request, body, **parts)

    def _go_wrong(self, fault: Fault) -> Response | None:
        time.sleep(fault.delay)
        if fault.refuse:
            self.refuse(fault.left or 0)
            _drop()
        if fault.hang:
            self._hang(fault)
        if not fault.status:
            return None
        return Response(fault.body, fault.status, fault.headers, mimetype="application/json")

    def _hang(self, fault: Fault) -> None:
        while fault in self.store.faults and (fault.left is None or fault.left > 0):
            if self.is_gone():
                break
            time.sleep(0.05)
        _drop()

    def _is_authorized(self, request: Request) -> bool:
        header = request.headers.get("Authorization", "")
        kind, _, key = header.partition(" ")
        if kind == "Basic":
            key = base64.b64decode(key).decode().partition(":")[2]
        return key in self.api_keys if self.api_keys else bool(header)

    def _graphql(self, request: Request, body: bytes) -> Response:
        asked = json.loads(body)
        query, call = asked["query"], Call(store=self.store, shared=_is_shared(request))
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

    def _file_stream(
        self, request: Request, body: bytes, entity: str, project: str, run: str
    ) -> Response:
        client = request.headers.get("X-WANDB-ASYNC-CLIENT-ID") if _is_shared(request) else None
        with self.store.lock:
            found = self.store.run(entity, project, run)
            if found is None:
                return _json({"error": f"run {entity}/{project}/{run} not found"}, 404)
            reply = stream.receive(found, json.loads(body or b"{}"), client)
            self.store.save()
        return _json(reply)

    def _storage(self, request: Request, body: bytes, key: str) -> Response:
        if request.method == "PUT":
            return self._put(key, body)
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

    def _admin(self, request: Request, body: bytes, what: str) -> Response:
        with self.store.lock:
            if what == "faults" and request.method == "POST":
                try:
                    self.store.faults = [Fault(**entry) for entry in json.loads(body)]
                except (TypeError, ValueError) as error:
                    return _refusal(str(error), 400)
            elif what == "reset":
                self.store.reset()
                self.store.save()
            elif what == "state":
                return _json(view.state(self.store))
            return _json({name: getattr(self.store, name) for name in ADMIN}.get(what, {}))


ADMIN = ("log", "unknown", "faults")


def _route(request: Request) -> tuple[str, dict[str, Any]]:
    """Return what an address means; the areas of faults are named so, too."""
    try:
        return URLS.bind_to_environ(request.environ).match()
    except HTTPException:
        return "other", {}


def _operation_name(query: str) -> str | None:
    found = operation(query)
    return found.name.value if found and found.name else None


def _is_shared(request: Request) -> bool:
    return request.headers.get("X-WANDB-USE-ASYNC-FILESTREAM") == "true"


def _drop() -> None:
    """Close the connection without an answer: werkzeug does, as if the client had."""
    raise ConnectionAbortedError


def _json(content: Any, status: int = 200) -> Response:
    return Response(json.dumps(content, default=vars), status, mimetype="application/json")


def _refusal(message: str, status: int) -> Response:
    return _json({"errors": [{"message": message}]}, status)
