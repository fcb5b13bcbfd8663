"""The file stream: what a run's client sends of it while it goes on."""

from __future__ import annotations

import json
from typing import Any

from .records import HISTORY, Line, Run
from .runs import merge

SUMMARY = "wandb-summary.json"


def receive(run: Run, body: dict[str, Any], client: str | None) -> dict[str, Any]:
    """Keep what is in *body*, from *client* in shared mode; return what to answer."""
    run.requests += 1
    run.touch()
    for name, chunk in (body.get("files") or {}).items():
        for offset, text in enumerate(chunk["content"], chunk["offset"]):
            _keep(run, name, Line(offset=offset, text=text, client=client))
    for name in body.get("uploaded") or []:
        run.files.setdefault(name, {})["committed"] = True
    _change_state(run, body)
    return {"exitcode": run.exitcode, "limits": {}, "stopped": run.stopped}


def _keep(run: Run, name: str, line: Line) -> None:
    if name == HISTORY:
        run.received.append(line)
    if name == SUMMARY:
        new = json.loads(line.text)
        run.summary = merge(run.summary, new) if line.client else new
        return
    lines, offset = run.stream.setdefault(name, {}), line.offset
    if line.client:  # In shared mode each client counts its own lines.
        offset = run.clients.setdefault(f"{line.client}:{name}:{offset}", len(lines))
    lines[offset] = line.text


def _change_state(run: Run, body: dict[str, Any]) -> None:
    if body.get("preempting"):
        run.state = "preempting"
    if body.get("complete"):
        run.exitcode = body.get("exitcode")
        run.state = "failed" if run.exitcode else "finished"
    elif run.state in ("crashed", "preempting"):
        run.state = "running"
