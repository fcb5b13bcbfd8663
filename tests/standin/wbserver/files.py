"""Files of runs: where they go, and what there is."""

from __future__ import annotations

import base64
import hashlib
import mimetypes
import re
from typing import Any

from .binding import Call, resolver
from .connections import Page, page
from .records import Run, gid, now
from .runs import find
from .store import Store


def key_of(run: Run, name: str) -> str:
    """Return the key of the blob that is the file *name* of *run*."""
    return f"run/{run.key}/{name}"


def note_uploaded(store: Store, key: str, content: bytes) -> None:
    """Note the size and hash of a run's file; *key* is that of its blob."""
    _, entity, project, run, name = key.split("/", 4)
    file = store.runs[f"{entity}/{project}/{run}"].files.setdefault(name, {})
    file["size"] = len(content)
    file["md5"] = base64.b64encode(hashlib.md5(content).digest()).decode()
    file["updatedAt"] = now()
    file["mimetype"] = mimetypes.guess_type(name)[0] or "application/octet-stream"


@resolver("Mutation.createRunFiles")
def create(_: Any, call: Call, values: dict[str, Any]) -> dict[str, Any]:
    """Return where each file is to be put."""
    run = find(call, values)
    files = [{"name": n, "uploadUrl": call.store.url(key_of(run, n))} for n in values["files"]]
    return {"runID": run.id, "uploadHeaders": [], "files": files}


@resolver("Mutation.markRunFilesUploaded")
def mark_uploaded(*_: Any, values: dict[str, Any]) -> dict[str, Any]:
    """Do nothing: an upload is noted when it comes."""
    return {"success": True}


@resolver("Mutation.deleteFiles")
def delete(_: Any, call: Call, values: dict[str, Any]) -> dict[str, Any]:
    """Forget files by their ids."""
    for run in call.store.runs.values():
        kept = {n: f for n, f in run.files.items() if _id(run, n) not in values["files"]}
        run.files = kept
    return {"success": True}


@resolver("Run.fileCount")
def count(run: Run, _: Call) -> int:
    """Return how many files there are."""
    return len(_uploaded(run))


@resolver("Run.files")
def files(
    run: Run,
    call: Call,
    names: list[str] | None = None,
    pattern: str | None = None,
    upload: bool = False,
    **paging: Any,
) -> Page:
    """Return the files with one of *names*, or like *pattern*, as SQL's LIKE has it."""
    like = re.escape(pattern).replace("%", ".*").replace("_", ".") if pattern else ".*"
    found = [n for n in sorted(_uploaded(run)) if n in (names or [n]) and re.fullmatch(like, n)]
    return page([_file(call.store, run, name) for name in found], **paging)


def _uploaded(run: Run) -> list[str]:
    return [name for name, file in run.files.items() if "size" in file]


def _file(store: Store, run: Run, name: str) -> dict[str, Any]:
    kept, url = run.files[name], store.url(key_of(run, name))
    found = {"id": _id(run, name), "name": name, "url": url, "directUrl": url}
    found |= {key: kept[key] for key in ("mimetype", "updatedAt", "md5")}
    return found | {"sizeBytes": str(kept["size"])}


def _id(run: Run, name: str) -> str:
    return gid("File", run.id, name)


@resolver("File.url")
def url(file: dict[str, Any], _: Call, upload: bool = False) -> str | None:
    """Return where a file is put and got."""
    return file.get("url")
