#!/usr/bin/env python3
"""A small stand-in W&B server for tests: loopback only, stdlib only, one file.

    python wbserver.py --port 8765 --data DIR [--api-key KEY] [--entity NAME]
    WANDB_BASE_URL=http://127.0.0.1:8765 WANDB_API_KEY=<40+ chars> python train.py

Test hooks (no auth):
    GET  /_admin/state              whole state as JSON
    GET  /_admin/log                list of requests seen, with GraphQL operation names
    GET  /_admin/unknown            GraphQL fields asked for that this file does not know
    POST /_admin/faults             [{"path": "graphql|file_stream|storage", "op": "UpsertBucket",
                                      "status": 500, "times": 3, "headers": {}, "body": "", "delay": 0}]
    POST /_admin/reset
"""

from __future__ import annotations

import argparse
import base64
import datetime
import gzip
import hashlib
import json
import mimetypes
import os
import pathlib
import re
import signal
import sys
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# --------------------------------------------------------------------------
# A GraphQL subset: parse a document, then project Python dicts through it.
# --------------------------------------------------------------------------

_TOKEN = re.compile(
    r'"""(?P<block>.*?)"""|"(?P<str>(?:\\.|[^"\\])*)"|(?P<num>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)'
    r"|(?P<name>[_A-Za-z]\w*)|(?P<punct>\.\.\.|[!$():=@\[\]{}|&])|#[^\n]*|[\s,]+",
    re.S,
)


class GQLError(Exception):
    pass


class Parser:
    def __init__(self, text):
        self.toks, pos = [], 0
        while pos < len(text):
            m = _TOKEN.match(text, pos)
            if not m:
                raise GQLError(f"syntax error at {text[pos : pos + 20]!r}")
            pos, kind = m.end(), m.lastgroup
            if kind:
                self.toks.append((kind, m.group(kind)))
        self.i = 0

    def peek(self):
        return self.toks[self.i] if self.i < len(self.toks) else (None, None)

    def next(self, want=None):
        tok = self.peek()
        self.i += 1
        if want is not None and tok[1] != want:
            raise GQLError(f"expected {want!r}, got {tok[1]!r}")
        return tok[1]

    def eat(self, want):
        if self.peek()[1] == want and self.peek()[0] in ("punct", "name"):
            self.i += 1
            return True
        return False

    def document(self):
        ops, frags = {}, {}
        while self.peek()[0]:
            word = self.next() if self.peek()[1] != "{" else "query"
            if word == "fragment":
                name = self.next()
                self.next("on")
                frags[name] = (self.next(), self.selections())
                continue
            name = self.next() if self.peek()[0] == "name" else None
            variables = {}
            if self.eat("("):
                while not self.eat(")"):
                    self.next("$")
                    var = self.next()
                    while self.peek()[1] not in ("=", "$", ")"):  # the type is not checked
                        self.next()
                    variables[var] = self.value() if self.eat("=") else None
            ops[name] = (word, variables, self.selections())
        return ops, frags

    def selections(self):
        out = []
        self.next("{")
        while not self.eat("}"):
            if self.eat("..."):
                if self.eat("on"):
                    typ = self.next()
                    out.append(("inline", typ, self.directives(), self.selections()))
                else:
                    out.append(("spread", self.next(), self.directives(), None))
                continue
            alias = name = self.next()
            if self.eat(":"):
                name = self.next()
            args = {}
            if self.eat("("):
                while not self.eat(")"):
                    key = self.next()
                    self.next(":")
                    args[key] = self.value()
            dirs = self.directives()
            sel = self.selections() if self.peek()[1] == "{" else None
            out.append(("field", (alias, name, args), dirs, sel))
        return out

    def directives(self):
        out = {}
        while self.eat("@"):
            name, args = self.next(), {}
            if self.eat("("):
                while not self.eat(")"):
                    key = self.next()
                    self.next(":")
                    args[key] = self.value()
            out[name] = args
        return out

    def value(self):
        kind, text = self.peek()
        self.i += 1
        if kind == "punct" and text == "$":
            return ("$var", self.next())
        if kind == "punct" and text == "[":
            items = []
            while not self.eat("]"):
                items.append(self.value())
            return items
        if kind == "punct" and text == "{":
            obj = {}
            while not self.eat("}"):
                key = self.next()
                self.next(":")
                obj[key] = self.value()
            return obj
        if kind == "str":
            return json.loads(f'"{text}"')
        if kind == "num":
            return json.loads(text)
        return {"true": True, "false": False, "null": None}.get(text, text)


IMPLEMENTS = {"ArtifactCollection": {"ArtifactSequence", "ArtifactPortfolio"}}


class Executor:
    def __init__(self, frags, variables, on_unknown):
        self.frags, self.vars, self.on_unknown = frags, variables, on_unknown

    def sub(self, v):
        if isinstance(v, tuple):
            return self.vars.get(v[1])
        if isinstance(v, list):
            return [self.sub(x) for x in v]
        if isinstance(v, dict):
            return {k: self.sub(x) for k, x in v.items()}
        return v

    def wanted(self, dirs):
        return self.sub(dirs.get("include", {}).get("if", True)) and not self.sub(
            dirs.get("skip", {}).get("if", False)
        )

    def project(self, obj, sels):
        if obj is None or sels is None:
            return obj
        if isinstance(obj, list):
            return [self.project(x, sels) for x in obj]
        out = {}
        for kind, what, dirs, sub in sels:
            if not self.wanted(dirs):
                continue
            if kind == "field":
                alias, name, args = what
                if name not in obj:
                    self.on_unknown(f"{obj.get('__typename', '?')}.{name}")
                    raise GQLError(
                        f'Cannot query field "{name}" on type "{obj.get("__typename", "?")}".'
                    )
                val = obj[name]
                if callable(val):
                    val = val(**{k: self.sub(v) for k, v in args.items()})
                val = self.project(val, sub)
                if isinstance(val, dict) and isinstance(out.get(alias), dict):
                    val = {**out[alias], **val}
                out[alias] = val
            else:
                typ, body = (what, sub) if kind == "inline" else self.frags[what]
                have = obj.get("__typename")
                if have is None or have == typ or have in IMPLEMENTS.get(typ, ()):
                    out.update(self.project(obj, body))
        return out


# --------------------------------------------------------------------------
# State
# --------------------------------------------------------------------------


def now():
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def gid(kind, *parts):
    return base64.b64encode(":".join([kind, *map(str, parts)]).encode()).decode()


def deep_merge(old, new):
    for k, v in new.items():
        if isinstance(v, dict) and isinstance(old.get(k), dict):
            deep_merge(old[k], v)
        else:
            old[k] = v
    return old


def page(items, first=None, after=None, **_):
    start = int(after) if after else 0
    stop = start + first if first else len(items)
    return {
        "__typename": "Connection",
        "totalCount": len(items),
        "edges": [
            {"node": x, "cursor": str(start + i + 1)} for i, x in enumerate(items[start:stop])
        ],
        "pageInfo": {
            "__typename": "PageInfo",
            "hasNextPage": stop < len(items),
            "endCursor": str(min(stop, len(items))) if items else None,
        },
    }


class Store:
    """All state. Public methods are called with `lock` held."""

    FEATURES = {
        "ARTIFACT_TAGS": True,
        "CLIENT_IDS": True,
        "USE_ARTIFACT_WITH_ENTITY_AND_PROJECT_INFORMATION": True,
        "PROJECT_ARTIFACT_COLLECTION_MEMBERSHIP": True,
        "ARTIFACT_COLLECTION_MEMBERSHIP_FILES": True,
        "TOTAL_COUNT_IN_FILE_CONNECTION": True,
        "LARGE_FILENAMES": True,
        "MARK_RUN_FILES_UPLOADED": True,
        "FILESTREAM_GZIP": True,
    }

    def __init__(self, data, entity, max_tag=64, crash_after=300.0, report_line_count=False):
        self.lock = threading.RLock()
        # What the real server puts in upsertBucket's historyLineCount for an existing run is not known.
        # A number makes a re-upload append after the old rows; null makes it rewrite them in place.
        self.report_line_count = report_line_count
        self.entity, self.max_tag, self.crash_after = entity, max_tag, crash_after
        self.data = pathlib.Path(data)
        (self.data / "blobs").mkdir(parents=True, exist_ok=True)
        self.path = self.data / "state.json"
        self.base = ""  # set once the port is known
        self.reset(load=True)

    def reset(self, load=False):
        self.s = {"runs": {}, "projects": {}, "artifacts": {}, "collections": {}, "charts": []}
        if load and self.path.exists():
            self.s.update(json.loads(self.path.read_text()))
        self.log, self.unknown, self.faults = [], {}, []

    def save(self):
        tmp = self.path.with_suffix(".tmp")
        tmp.write_text(json.dumps(self.s))
        os.replace(tmp, self.path)

    # ---- blobs
    def blob_path(self, key):
        return self.data / "blobs" / hashlib.sha256(key.encode()).hexdigest()

    def url(self, key):
        return f"{self.base}/storage/" + urllib.parse.quote(key)

    # ---- projects and runs
    def project(self, entity, name, create=False):
        entity, name = entity or self.entity, name or "uncategorized"
        key = f"{entity}/{name}"
        if key not in self.s["projects"]:
            if not create:
                return None
            n = len(self.s["projects"]) + 1
            self.s["projects"][key] = {"n": n, "entity": entity, "name": name, "createdAt": now()}
        return self.s["projects"][key]

    def run(self, entity, project, name):
        return self.s["runs"].get(f"{entity or self.entity}/{project or 'uncategorized'}/{name}")

    def run_by_id(self, storage_id):
        return next((r for r in self.s["runs"].values() if r["id"] == storage_id), None)

    def upsert(self, inp, shared):
        for tag in inp.get("tags") or []:
            if not 1 <= len(tag) <= self.max_tag:
                raise GQLError(f"tag must be 1..{self.max_tag} characters: {tag!r}")
        run = self.run_by_id(inp["id"]) if inp.get("id") else None
        if run is None:
            if inp.get("id") and not inp.get("name"):
                raise GQLError(f"no run with id {inp['id']}")
            proj = self.project(inp.get("entityName"), inp.get("modelName"), create=True)
            key = f"{proj['entity']}/{proj['name']}/{inp['name']}"
            run = self.s["runs"].get(key)
        inserted = run is None
        if inserted:
            run = self.s["runs"][key] = {
                "key": key,
                "entity": proj["entity"],
                "project": proj["name"],
                "name": inp["name"],
                "id": gid("Run", "v1", inp["name"], proj["name"], proj["entity"]),
                "displayName": f"standin-run-{len(self.s['runs']) + 1}",
                "description": None,
                "notes": None,
                "tags": [],
                "group": None,
                "jobType": None,
                "host": None,
                "program": None,
                "repo": None,
                "commit": None,
                "sweepName": None,
                "debug": None,
                "state": "running",
                "createdAt": now(),
                "heartbeatAt": now(),
                "beat": time.time(),
                "config": {},
                "summary": {},
                "stream": {},
                "files": {},
                "exitcode": None,
                "stopped": False,
                "logged": [],
                "used": [],
                "clients": {},
                "requests": 0,
            }
        for src, dst in (
            ("displayName", "displayName"),
            ("description", "description"),
            ("notes", "notes"),
            ("groupName", "group"),
            ("jobType", "jobType"),
            ("host", "host"),
            ("tags", "tags"),
            ("jobProgram", "program"),
            ("jobRepo", "repo"),
            ("commit", "commit"),
            ("sweep", "sweepName"),
            ("debug", "debug"),
        ):
            if inp.get(src) is not None:
                run[dst] = inp[src]
        if inp.get("config") is not None:
            new = json.loads(inp["config"])
            run["config"] = deep_merge(run["config"], new) if shared else new
        if inp.get("summaryMetrics") is not None:
            run["summary"] = json.loads(inp["summaryMetrics"])
        if inp.get("state"):
            run["state"] = inp["state"]
        elif inp.get(
            "name"
        ):  # from wandb-core: the run is alive; from wandb.Api() only `id` is sent
            run["state"], run["exitcode"] = "running", None
            run["beat"], run["heartbeatAt"] = time.time(), now()
        return run, inserted

    def lines(self, run, name):
        f = run["stream"].get(name, {})
        return [f[k] for k in sorted(f, key=int)]

    def history(self, run):
        rows = []
        for i, line in enumerate(self.lines(run, "wandb-history.jsonl")):
            row = json.loads(line)
            if run[
                "clients"
            ]:  # shared mode: each client counts from 0; the server assigns the step
                row["_step"] = i
            rows.append(row)
        return rows

    def file_stream(self, run, body, client):
        run["requests"] += 1
        run["beat"], run["heartbeatAt"] = time.time(), now()
        for name, chunk in (body.get("files") or {}).items():
            dest = run["stream"].setdefault(name, {})
            for i, line in enumerate(chunk["content"]):
                off = chunk["offset"] + i
                if name in ("wandb-summary.json",):
                    if client:
                        deep_merge(run["summary"], json.loads(line))
                    else:
                        run["summary"] = json.loads(line)
                elif client:  # shared mode: offsets are per client
                    ck = f"{client}:{name}:{off}"
                    off = run["clients"].setdefault(ck, len(dest))
                dest[str(off)] = line
        for name in body.get("uploaded") or []:
            run["files"].setdefault(name, {})["committed"] = True
        if body.get("preempting"):
            run["state"] = "preempting"
        if body.get("complete"):
            run["exitcode"] = body.get("exitcode")
            run["state"] = "finished" if not body.get("exitcode") else "failed"
        elif run["state"] in ("crashed", "preempting"):
            run["state"] = "running"
        return {"exitcode": run["exitcode"], "limits": {}, "stopped": run["stopped"]}

    # ---- GraphQL objects
    def o_entity(self, name):
        return {
            "__typename": "Entity",
            "id": gid("Entity", name),
            "name": name,
            "organization": None,
            "user": None,
            "xxhashDigestsEnabled": False,
            "isTeam": False,
            "available": False,
            "readOnly": False,
        }

    def o_viewer(self):
        e = self.entity
        return {
            "__typename": "User",
            "id": gid("User", 1),
            "entity": e,
            "username": e,
            "name": e,
            "email": f"{e}@example.invalid",
            "flags": "{}",
            "admin": False,
            "deletedAt": None,
            "teams": {"edges": [{"node": {"name": e}}]},
            "apiKeys": {"edges": []},
        }

    def o_project(self, p):
        if p is None:
            return None
        ent, name = p["entity"], p["name"]

        def runs(filters=None, order=None, **kw):
            items = self.filter_runs(ent, name, filters, order)
            return page([self.o_run(r) for r in items], **kw)

        def membership(name):
            coll_name, _, alias = name.partition(":")
            return self.o_membership(
                self.s["collections"].get(f"{ent}/{p['name']}/{coll_name}"), alias or "latest"
            )

        def artifact(name):
            m = membership(name)
            return m and m["artifact"]

        def atype(name):
            return {
                "__typename": "ArtifactType",
                "id": gid("AType", ent, p["name"], name),
                "name": name,
                "description": None,
                "createdAt": p["createdAt"],
                "artifactCollection": lambda name: self.o_collection(
                    self.s["collections"].get(f"{ent}/{p['name']}/{name}")
                ),
            }

        return {
            "__typename": "Project",
            "id": gid("Project", p["n"]),
            "internalId": str(p["n"]),
            "name": name,
            "entityName": ent,
            "entity": self.o_entity(ent),
            "createdAt": p["createdAt"],
            "isBenchmark": False,
            "user": self.o_viewer,
            "readOnly": False,
            "description": None,
            "access": "PRIVATE",
            "artifactTypes": lambda **kw: page(
                [
                    atype(t)
                    for t in sorted(
                        {
                            c["type"]
                            for c in self.s["collections"].values()
                            if c["key"].startswith(f"{ent}/{p['name']}/")
                        }
                    )
                ],
                **kw,
            ),
            "run": lambda name: self.o_run(self.run(ent, p["name"], name)),
            "bucket": lambda name, missingOk=False: self.o_run(self.run(ent, p["name"], name)),
            "runs": runs,
            "runCount": lambda filters=None: len(self.filter_runs(ent, name, filters, None)),
            "artifact": artifact,
            "artifactType": atype,
            "artifactCollectionMembership": membership,
            "artifactCollection": lambda name: self.o_collection(
                self.s["collections"].get(f"{ent}/{p['name']}/{name}")
            ),
        }

    def filter_runs(self, entity, project, filters, order):
        def val(r, key):
            if key.startswith("config."):
                v = r["config"].get(key.split(".")[1], {})
                return v.get("value") if isinstance(v, dict) else v
            if key.startswith("summary_metrics."):
                return r["summary"].get(key.split(".", 1)[1])
            key = {
                "display_name": "displayName",
                "jobType": "jobType",
                "created_at": "createdAt",
            }.get(key, key)
            return r.get(key)

        def ok(r, f):
            for k, want in f.items():
                if k == "$and":
                    if not all(ok(r, x) for x in want):
                        return False
                elif k == "$or":
                    if not any(ok(r, x) for x in want):
                        return False
                elif k == "tags":
                    wants = want.get("$in") if isinstance(want, dict) else [want]
                    if not set(wants) & set(r["tags"]):
                        return False
                elif isinstance(want, dict):
                    have = val(r, k)
                    for op, x in want.items():
                        if op == "$in" and have not in x or op == "$ne" and have == x:
                            return False
                        if op in ("$gt", "$gte", "$lt", "$lte"):
                            if (
                                have is None
                                or not {
                                    "$gt": have > x,
                                    "$gte": have >= x,
                                    "$lt": have < x,
                                    "$lte": have <= x,
                                }[op]
                            ):
                                return False
                elif val(r, k) != want:
                    return False
            return True

        flt = json.loads(filters) if filters else {}
        out = [
            r
            for r in self.s["runs"].values()
            if r["entity"] == entity and r["project"] == project and ok(r, flt or {})
        ]
        return out[::-1] if (order or "").startswith("-") else out

    def o_run(self, r):
        if r is None:
            return None
        if r["state"] == "running" and time.time() - r["beat"] > self.crash_after:
            r["state"] = "crashed"
        p = self.project(r["entity"], r["project"])

        def history(minStep=None, maxStep=None, samples=None):
            rows = [
                x
                for x in self.history(r)
                if (minStep is None or x["_step"] >= minStep)
                and (maxStep is None or x["_step"] < maxStep)
            ]
            if samples and minStep is None and len(rows) > samples:
                rows = [
                    rows[int(i * (len(rows) - 1) / max(samples - 1, 1))] for i in range(samples)
                ]
            return [json.dumps(x) for x in rows]

        def sampled(specs):
            out = []
            for spec in specs:
                spec = json.loads(spec)
                keys = spec["keys"]
                rows = [
                    {k: x[k] for k in keys}
                    for x in self.history(r)
                    if all(k in x for k in keys)
                    and x["_step"] >= spec.get("minStep", 0)
                    and x["_step"] <= spec.get("maxStep", 1 << 62)
                ]
                n = spec.get("samples") or len(rows)
                if len(rows) > n:
                    rows = [rows[int(i * (len(rows) - 1) / max(n - 1, 1))] for i in range(n)]
                out.append(rows)
            return out

        def events(samples=None):
            return self.lines(r, "wandb-events.jsonl")[: samples or None]

        def history_keys():
            rows = self.history(r)
            keys = {}
            for row in rows:
                for k, v in row.items():
                    typ = (
                        "number"
                        if isinstance(v, (int, float))
                        else "string"
                        if isinstance(v, str)
                        else "map"
                    )
                    d = keys.setdefault(
                        k, {"typeCounts": [{"type": typ, "count": 0}], "monotonic": False}
                    )
                    d["typeCounts"][0]["count"] += 1
            return {
                "sets": [],
                "keys": keys,
                "lastStep": max((x["_step"] for x in rows), default=-1),
            }

        def files(names=None, pattern=None, upload=False, **kw):
            rx = (
                re.compile(re.escape(pattern).replace("%", ".*").replace("_", "."))
                if pattern
                else None
            )
            out = []
            for n, f in sorted(r["files"].items()):
                if names and n not in names or rx and not rx.fullmatch(n) or "size" not in f:
                    continue
                out.append(
                    {
                        "__typename": "File",
                        "id": gid("File", r["id"], n),
                        "name": n,
                        "url": lambda upload=False, n=n: self.url(f"run/{r['key']}/{n}"),
                        "directUrl": self.url(f"run/{r['key']}/{n}"),
                        "sizeBytes": str(f["size"]),
                        "mimetype": f["mimetype"],
                        "updatedAt": f["updatedAt"],
                        "md5": f["md5"],
                    }
                )
            return page(out, **kw)

        def log_lines(first=None, after=None, last=None, useImprovedPagination=None):
            nodes = []
            for i, line in enumerate(self.lines(r, "output.log")):
                try:
                    d = json.loads(line) if line.startswith("{") else {}
                except ValueError:
                    d = {}
                nodes.append(
                    {
                        "number": i,
                        "timestamp": d.get("ts"),
                        "level": d.get("level"),
                        "label": d.get("label"),
                        "line": d.get("content", line),
                    }
                )
            return page(nodes[-last:] if last else nodes, first, after)

        def arts(ids):
            return lambda **kw: page(
                [
                    self.o_artifact(self.s["artifacts"][i])
                    for i in ids
                    if self.s["artifacts"][i]["state"] == "COMMITTED"
                ],
                **kw,
            )

        hist, ev = self.lines(r, "wandb-history.jsonl"), self.lines(r, "wandb-events.jsonl")
        wandb_cfg = (r["config"].get("_wandb") or {}).get("value") or {}
        return {
            "__typename": "Run",
            "id": r["id"],
            "name": r["name"],
            "displayName": r["displayName"],
            "description": r["description"],
            "notes": r["notes"],
            "tags": r["tags"],
            "group": r["group"],
            "groupName": r["group"],
            "jobType": r["jobType"],
            "host": r["host"],
            "commit": r["commit"],
            "sweepName": r["sweepName"],
            "state": r["state"],
            "createdAt": r["createdAt"],
            "heartbeatAt": r["heartbeatAt"],
            "readOnly": False,
            "stopped": r["stopped"],
            "projectId": str(p["n"]),
            "project": lambda: self.o_project(p),
            "user": {"__typename": "User", "name": self.entity, "username": self.entity},
            "config": json.dumps(r["config"]),
            "summaryMetrics": json.dumps(r["summary"]),
            "systemMetrics": lambda: json.dumps(json.loads(ev[-1]) if ev else {}),
            "historyLineCount": len(hist),
            "eventsLineCount": len(ev),
            "logLineCount": len(r["stream"].get("output.log", {})),
            "historyTail": json.dumps(hist[-1:]),
            "eventsTail": json.dumps(ev[-1:]),
            "historyKeys": history_keys,
            "wandbConfig": lambda keys=(): json.dumps(
                {k: wandb_cfg[k] for k in keys if k in wandb_cfg}
            ),
            "history": history,
            "events": events,
            "sampledHistory": sampled,
            "parquetHistory": lambda liveKeys=(): {
                "parquetUrls": [],
                "liveData": [{"_step": x["_step"]} for x in self.history(r)[:1]],
            },
            "fileCount": len([f for f in r["files"].values() if "size" in f]),
            "files": files,
            "logLines": log_lines,
            "outputArtifacts": arts(r["logged"]),
            "inputArtifacts": arts(r["used"]),
        }

    def o_collection(self, c):
        if c is None:
            return None

        def artifacts(order=None, filters=None, **kw):  # newest first; filters are ignored
            out = page(
                [self.o_artifact(self.s["artifacts"][i]) for i in reversed(c["versions"].values())],
                **kw,
            )
            for e in out["edges"]:
                e["version"] = f"v{e['node']['versionIndex']}"
            return out

        return {
            "__typename": "ArtifactSequence",
            "id": c["id"],
            "name": c["name"],
            "description": None,
            "digestAlgorithm": "MANIFEST_MD5",
            "createdAt": c["createdAt"],
            "updatedAt": None,
            "project": lambda: self.o_project(self.project(c["entity"], c["project"])),
            "type": {"name": c["type"]},
            "defaultArtifactType": {"name": c["type"]},
            "tags": {"edges": []},
            "artifacts": artifacts,
            "latestArtifact": lambda: self.o_artifact(
                self.s["artifacts"].get(c["aliases"].get("latest", ""))
            ),
            "artifactMembership": lambda aliasName: self.o_membership(c, aliasName),
        }

    def o_membership(self, c, alias):
        aid = c and (c["aliases"].get(alias) or c["versions"].get(alias))
        if not aid:
            return None
        a = self.s["artifacts"][aid]
        return {
            "__typename": "ArtifactCollectionMembership",
            "id": gid("Mem", aid),
            "createdAt": a["createdAt"],
            "versionIndex": a["versionIndex"],
            "aliases": self.o_aliases(a),
            "artifactCollection": self.o_collection(c),
            "artifact": self.o_artifact(a),
            "files": lambda **kw: self.o_artifact(a)["files"](**kw),
        }

    def o_aliases(self, a):
        c = self.s["collections"][a["collection"]]
        return [
            {
                "__typename": "ArtifactAlias",
                "id": gid("Alias", c["id"], k),
                "alias": k,
                "artifactCollection": lambda: self.o_collection(c),
            }
            for k, v in c["aliases"].items()
            if v == a["id"]
        ]

    def o_artifact(self, a):
        if a is None:
            return None
        c = self.s["collections"][a["collection"]]

        def files(names=None, **kw):
            out = [
                {
                    "__typename": "File",
                    "id": gid("AFile", a["id"], n),
                    "name": n,
                    "displayName": n,
                    "url": self.url(k),
                    "directUrl": self.url(k),
                    "sizeBytes": self.blob_path(k).stat().st_size,
                    "mimetype": None,
                    "updatedAt": None,
                    "md5": None,
                    "digest": None,
                    "storagePath": k,
                }
                for n, k in sorted(a["files"].items())
                if not names or n in names
            ]
            return page(out, **kw)

        return {
            "__typename": "Artifact",
            "id": a["id"],
            "artifactSequence": lambda: self.o_collection(c),
            "versionIndex": a["versionIndex"],
            "artifactType": {"name": c["type"]},
            "description": a["description"],
            "metadata": a["metadata"],
            "ttlDurationSeconds": -1,
            "ttlIsInherited": True,
            "tags": [{"__typename": "Tag", "id": gid("Tag", t), "name": t} for t in a["tags"]],
            "historyStep": a["historyStep"],
            "state": a["state"],
            "size": a["size"],
            "digest": a["digest"],
            "digestAlgorithm": "MANIFEST_MD5",
            "commitHash": a["commitHash"],
            "fileCount": len(a["files"]),
            "createdAt": a["createdAt"],
            "updatedAt": None,
            "aliases": lambda: self.o_aliases(a),
            "currentManifest": {
                "id": gid("Manifest", a["id"]),
                "file": {"directUrl": self.url(f"manifest/{a['id']}")},
            },
            "files": files,
            "filesByManifestEntries": lambda entries=None, **kw: files(),
            "createdBy": lambda: self.o_run(self.s["runs"].get(a["run"] or "")),
            "usedBy": lambda: page(
                [self.o_run(r) for r in self.s["runs"].values() if a["id"] in r["used"]]
            ),
        }

    # ---- GraphQL roots
    def query_root(self):
        return {
            "__typename": "Query",
            "viewer": self.o_viewer,
            "serverInfo": lambda: {
                "__typename": "ServerInfo",
                "features": [{"name": k, "isEnabled": v} for k, v in self.FEATURES.items()],
                "cliVersionInfo": {"max_cli_version": "99.0.0"},
                "latestLocalVersionInfo": None,
            },
            "project": lambda name=None, entityName=None: self.o_project(
                self.project(entityName, name)
            ),
            "model": lambda name=None, entityName=None: self.o_project(
                self.project(entityName, name)
            ),
            "entity": lambda name: self.o_entity(name),
            "organization": lambda name: None,
            "models": lambda entityName=None, **kw: page(
                [
                    self.o_project(p)
                    for p in self.s["projects"].values()
                    if p["entity"] == (entityName or self.entity)
                ],
                **kw,
            ),
            "artifact": lambda id: self.o_artifact(self.s["artifacts"].get(id)),
            "clientIDMapping": lambda clientID: next(
                (
                    {"serverID": a["id"]}
                    for a in self.s["artifacts"].values()
                    if a["clientID"] == clientID
                ),
                None,
            ),
        }

    def mutation_root(self, shared):
        s = self

        def upsertBucket(input):
            run, inserted = s.upsert(input, shared)
            bucket = s.o_run(run)
            if not s.report_line_count and input.get("name"):
                bucket["historyLineCount"] = None
            return {"bucket": bucket, "inserted": inserted}

        def createRunFiles(input):
            run = s.run(input.get("entityName"), input.get("projectName"), input["runName"])
            if run is None:
                raise GQLError("run not found")
            return {
                "runID": run["id"],
                "uploadHeaders": [],
                "files": [
                    {"name": n, "uploadUrl": s.url(f"run/{run['key']}/{n}")} for n in input["files"]
                ],
            }

        def markRunFilesUploaded(input):
            return {"success": True}

        def stopRun(input):
            s.run_by_id(input["id"])["stopped"] = True
            return {"success": True, "clientMutationId": None}

        def deleteRun(input):
            s.s["runs"].pop(s.run_by_id(input["id"])["key"])
            return {"clientMutationId": None}

        def upsertModel(input):
            p = s.project(input.get("entityName"), input["name"], create=True)
            return {"project": s.o_project(p), "model": s.o_project(p), "inserted": True}

        def createArtifact(input):
            p = s.project(input["entityName"], input["projectName"], create=True)
            ck = f"{p['entity']}/{p['name']}/{input['artifactCollectionName']}"
            c = s.s["collections"].setdefault(
                ck,
                {
                    "key": ck,
                    "id": gid("Seq", ck),
                    "name": input["artifactCollectionName"],
                    "entity": p["entity"],
                    "project": p["name"],
                    "type": input["artifactTypeName"],
                    "createdAt": now(),
                    "aliases": {},
                    "versions": {},
                },
            )
            if c["type"] != input["artifactTypeName"]:
                raise GQLError(f"artifact {c['name']} already exists with type {c['type']}")
            runkey = (
                f"{p['entity']}/{p['name']}/{input['runName']}" if input.get("runName") else None
            )
            art = next(
                (
                    s.s["artifacts"][i]
                    for i in c["versions"].values()
                    if s.s["artifacts"][i]["digest"] == input["digest"]
                ),
                None,
            )
            if art is None:
                aid = gid("Artifact", len(s.s["artifacts"]) + 1)
                art = s.s["artifacts"][aid] = {
                    "id": aid,
                    "collection": ck,
                    "digest": input["digest"],
                    "state": "PENDING",
                    "versionIndex": None,
                    "description": input.get("description"),
                    "metadata": input.get("metadata"),
                    "size": 0,
                    "tags": [t["tagName"] for t in input.get("tags") or []],
                    "historyStep": input.get("historyStep"),
                    "commitHash": hashlib.sha1(aid.encode()).hexdigest(),
                    "createdAt": now(),
                    "files": {},
                    "clientID": input.get("clientID"),
                    "run": runkey,
                    "want": [x["alias"] for x in input.get("aliases") or []],
                }
            else:
                for x in input.get("aliases") or []:
                    c["aliases"][x["alias"]] = art["id"]
            if runkey in s.s["runs"] and art["id"] not in s.s["runs"][runkey]["logged"]:
                s.s["runs"][runkey]["logged"].append(art["id"])
            return {"__typename": "CreateArtifactPayload", "artifact": s.o_artifact(art)}

        def manifest_file(aid):
            key = f"manifest/{aid}"
            return {
                "artifactManifest": {
                    "id": gid("Manifest", aid),
                    "file": {
                        "id": gid("MFile", aid),
                        "uploadUrl": s.url(key),
                        "uploadHeaders": [],
                        "directUrl": s.url(key),
                        "storagePath": key,
                        "uploadMultipartUrls": None,
                    },
                }
            }

        def createArtifactFiles(input):
            nodes = []
            for f in input["artifactFiles"]:
                art, key = (
                    s.s["artifacts"][f["artifactID"]],
                    f"artifact/{f['artifactID']}/{f['name']}",
                )
                art["files"][f["name"]] = key
                nodes.append(
                    {
                        "__typename": "File",
                        "id": gid("AFile", key),
                        "name": f["name"],
                        "displayName": None,
                        "storagePath": key,
                        "uploadUrl": s.url(key),
                        "uploadHeaders": [],
                        "uploadMultipartUrls": None,
                        "artifact": {"id": art["id"]},
                    }
                )
            return {"files": page(nodes)}

        def commitArtifact(input):
            a = s.s["artifacts"][input["artifactID"]]
            c = s.s["collections"][a["collection"]]
            if a["state"] != "COMMITTED":
                a["state"], a["versionIndex"] = "COMMITTED", c.setdefault("next", 0)
                c["next"] += 1
                a["size"] = sum(s.blob_path(k).stat().st_size for k in a["files"].values())
                c["versions"][f"v{a['versionIndex']}"] = a["id"]
                for alias in {*a.pop("want"), "latest"}:
                    c["aliases"][alias] = a["id"]
            return {"artifact": s.o_artifact(a)}

        def useArtifact(input):
            run = s.run(input["entityName"], input["projectName"], input["runName"])
            if input["artifactID"] not in run["used"]:
                run["used"].append(input["artifactID"])
            return {"artifact": s.o_artifact(s.s["artifacts"][input["artifactID"]])}

        def updateArtifact(input):
            a = s.s["artifacts"][input["artifactID"]]
            for k in ("metadata", "description"):
                if input.get(k) is not None:
                    a[k] = input[k]
            c = s.s["collections"][a["collection"]]
            if input.get("aliases") is not None:
                c["aliases"] = {k: v for k, v in c["aliases"].items() if v != a["id"]}
                for x in input["aliases"]:
                    c["aliases"][x["alias"]] = a["id"]
            a["tags"] += [t["tagName"] for t in input.get("tagsToAdd") or []]
            return {"artifact": s.o_artifact(a)}

        def addAliases(input):
            a = s.s["artifacts"][input["artifactID"]]
            for x in input["aliases"]:
                s.s["collections"][a["collection"]]["aliases"][x["alias"]] = a["id"]
            return {"success": True}

        def deleteAliases(input):
            c = s.s["collections"][s.s["artifacts"][input["artifactID"]]["collection"]]
            for x in input["aliases"]:
                c["aliases"].pop(x["alias"], None)
            return {"success": True}

        def deleteArtifact(input):
            a = s.s["artifacts"][input["artifactID"]]
            c = s.s["collections"][a["collection"]]
            held = [k for k, v in c["aliases"].items() if v == a["id"] and k != "latest"]
            if held and not input.get("deleteAliases"):
                raise GQLError(f"artifact has aliases {held}")
            for d in (c["aliases"], c["versions"]):
                for k in [k for k, v in d.items() if v == a["id"]]:
                    del d[k]
            a["state"] = "DELETED"
            return {"artifact": {"id": a["id"]}}

        def deleteFiles(input):
            for r in s.s["runs"].values():
                for n in [n for n in r["files"] if gid("File", r["id"], n) in input["files"]]:
                    del r["files"][n]
            return {"success": True}

        def createCustomChart(input):
            s.s["charts"].append(input)
            return {"chart": {"id": gid("Chart", len(s.s["charts"]))}}

        def rewindRun(input):
            run = s.run(input.get("entityName"), input.get("projectName"), input["runName"])
            hist = run["stream"].get("wandb-history.jsonl", {})
            for k in [k for k, v in hist.items() if json.loads(v)["_step"] > input["metricValue"]]:
                del hist[k]
            return {"rewoundRun": s.o_run(run)}

        def notifyScriptableRunAlert(input):
            run = s.run(input["entityName"], input["projectName"], input["runName"])
            run.setdefault("alerts", []).append(input)
            return {"success": True}

        return {
            "__typename": "Mutation",
            "upsertBucket": upsertBucket,
            "createRunFiles": createRunFiles,
            "markRunFilesUploaded": markRunFilesUploaded,
            "stopRun": stopRun,
            "deleteRun": deleteRun,
            "upsertModel": upsertModel,
            "createArtifact": createArtifact,
            "createArtifactManifest": lambda input: manifest_file(input["artifactID"]),
            "createArtifactFiles": createArtifactFiles,
            "commitArtifact": commitArtifact,
            "useArtifact": useArtifact,
            "updateArtifact": updateArtifact,
            "addAliases": addAliases,
            "deleteArtifact": deleteArtifact,
            "deleteFiles": deleteFiles,
            "deleteAliases": deleteAliases,
            "createCustomChart": createCustomChart,
            "rewindRun": rewindRun,
            "notifyScriptableRunAlert": notifyScriptableRunAlert,
        }

    def graphql(self, query, variables, shared, entry):
        ops, frags = Parser(query).document()
        if len(ops) != 1:
            raise GQLError("exactly one operation per request")
        ((name, (kind, declared, sels)),) = ops.items()
        entry["op"] = name

        def unknown(what):
            self.unknown.setdefault(f"{name}: {what}", query)

        merged = {k: d for k, d in declared.items()}
        merged.update({k: v for k, v in (variables or {}).items()})
        root = self.query_root() if kind == "query" else self.mutation_root(shared)
        data = Executor(frags, merged, unknown).project(root, sels)
        if kind == "mutation":
            self.save()
        return data


# --------------------------------------------------------------------------
# HTTP
# --------------------------------------------------------------------------


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store: Store
    api_keys: set

    def log_message(self, *_):
        pass

    def body(self):
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            out = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                out += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            out = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(out) if self.headers.get("Content-Encoding") == "gzip" else out

    def reply(self, status, body=b"", ctype="application/json", headers=()):
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        self.entry["status"] = status
        self.send_response(status)
        self.send_header("Content-Type", ctype)
        self.send_header("Content-Length", str(len(body)))
        for k, v in dict(headers).items():
            self.send_header(k, str(v))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def authorized(self):
        if not self.api_keys:
            return bool(self.headers.get("Authorization"))
        kind, _, cred = (self.headers.get("Authorization") or "").partition(" ")
        if kind == "Basic":
            cred = base64.b64decode(cred).decode().partition(":")[2]
        return cred in self.api_keys

    def fault(self, area, op):
        with self.store.lock:
            for f in self.store.faults:
                if (
                    f.get("times", 1)
                    and f.get("path") in (None, area)
                    and f.get("op") in (None, op)
                ):
                    f["times"] = f.get("times", 1) - 1
                    return f
        return None

    def handle_any(self):
        st, path = self.store, urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        self.entry = {
            "t": time.time(),
            "method": self.command,
            "path": path,
            "ua": self.headers.get("User-Agent"),
        }
        raw = self.body()
        if path.startswith("/_admin/"):
            return self.admin(path[8:], raw)
        with st.lock:
            st.log.append(self.entry)
        area = (
            "graphql"
            if path == "/graphql"
            else "file_stream"
            if path.endswith("/file_stream")
            else "storage"
            if path.startswith("/storage/")
            else "other"
        )
        opname = None
        if area == "graphql":
            m = re.search(
                r"\b(?:query|mutation)\s+(\w+)", raw.decode("utf-8", "replace").replace("\\n", "\n")
            )
            opname = self.entry["op"] = m and m.group(1)
        if f := self.fault(area, opname):
            time.sleep(f.get("delay", 0))
            if f.get("status"):
                return self.reply(
                    f["status"], (f.get("body") or "").encode(), headers=f.get("headers", {})
                )
        if area == "storage":  # like a presigned URL: no credentials asked for
            return self.storage(path[len("/storage/") :], raw)
        if area == "other":
            return self.reply(404, {"error": "not found"})
        if not self.authorized():
            return self.reply(401, {"errors": [{"message": "invalid API key"}]})
        shared = self.headers.get("X-WANDB-USE-ASYNC-FILESTREAM") == "true"
        if area == "file_stream":
            _, _, ent, proj, run, _ = path.split("/", 5)
            with st.lock:
                r = st.run(ent, proj, run)
                if r is None:
                    return self.reply(404, {"error": f"run {ent}/{proj}/{run} not found"})
                out = st.file_stream(
                    r,
                    json.loads(raw or b"{}"),
                    self.headers.get("X-WANDB-ASYNC-CLIENT-ID") if shared else None,
                )
                st.save()
            return self.reply(200, out)
        req = json.loads(raw)
        try:
            with st.lock:
                data = st.graphql(req["query"], req.get("variables"), shared, self.entry)
        except GQLError as e:
            return self.reply(400, {"errors": [{"message": str(e)}]})
        self.reply(200, {"data": data})

    def storage(self, key, raw):
        st = self.store
        if self.command == "PUT":
            st.blob_path(key).write_bytes(raw)
            if key.startswith("run/"):
                _, ent, proj, run, name = key.split("/", 4)
                with st.lock:
                    st.s["runs"][f"{ent}/{proj}/{run}"]["files"].setdefault(name, {}).update(
                        size=len(raw),
                        md5=base64.b64encode(hashlib.md5(raw).digest()).decode(),
                        updatedAt=now(),
                        mimetype=mimetypes.guess_type(name)[0] or "application/octet-stream",
                    )
                    st.save()
            return self.reply(200, headers={"ETag": hashlib.md5(raw).hexdigest()})
        if not st.blob_path(key).exists():
            return self.reply(404, b"no such object")
        data, rng = st.blob_path(key).read_bytes(), self.headers.get("Range")
        if rng and (m := re.fullmatch(r"bytes=(\d+)-(\d*)", rng)):
            lo, hi = int(m[1]), min(int(m[2] or len(data) - 1), len(data) - 1)
            return self.reply(
                206,
                data[lo : hi + 1],
                "application/octet-stream",
                {"Content-Range": f"bytes {lo}-{hi}/{len(data)}"},
            )
        return self.reply(200, data, "application/octet-stream")

    def admin(self, what, raw):
        st = self.store
        with st.lock:
            if what == "faults" and self.command == "POST":
                st.faults = json.loads(raw)
            elif what == "reset":
                st.reset()
                st.save()
            out = {"state": st.s, "log": st.log, "unknown": st.unknown, "faults": st.faults}.get(
                what, {}
            )
            body = json.dumps(out).encode()
        self.reply(200, body)

    do_GET = do_POST = do_PUT = do_HEAD = handle_any


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    allow_reuse_address = True


def make_server(port=0, data="wbserver-data", entity="standin", api_keys=(), **kw):
    """In-process use: `srv = make_server(); threading.Thread(target=srv.serve_forever).start()`."""
    store = Store(data, entity, **kw)
    handler = type("H", (Handler,), {"store": store, "api_keys": set(api_keys)})
    srv = Server(("127.0.0.1", port), handler)
    store.base = f"http://127.0.0.1:{srv.server_address[1]}"
    srv.store = store
    return srv


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--port", type=int, default=8765)
    ap.add_argument("--data", default="wbserver-data")
    ap.add_argument("--entity", default="standin")
    ap.add_argument("--api-key", action="append", default=[])
    ap.add_argument("--crash-after", type=float, default=300.0)
    ap.add_argument("--report-line-count", action="store_true")
    a = ap.parse_args()
    srv = make_server(
        a.port,
        a.data,
        a.entity,
        a.api_key,
        crash_after=a.crash_after,
        report_line_count=a.report_line_count,
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print(srv.store.base, flush=True)
    srv.serve_forever()


if __name__ == "__main__":
    main()
