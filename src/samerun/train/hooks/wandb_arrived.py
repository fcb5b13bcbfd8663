"""Which rows of the earlier starts of a W&B run have arrived, and which were lost."""

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from samerun.train.hooks import wandb_log
from samerun.train.report.quiet import quietly

Row = dict[str, Any]
API_TIMEOUT_S = 20


def split(run: Any, before: Sequence[Row]) -> tuple[set[str], dict[str, tuple[Any, Row]]]:
    """
    Return the names of the parts of rows that W&B has, and the other parts with their time.

    *before* is the journal of the earlier starts. If two of them sent a row, it may have arrived
    only from the earlier one. A server that does not answer is taken to have all of them: what
    it lacks is in the journal, and `invoke sync` delivers it, but no row could be taken back.
    """
    rows = [line for line in before if "parts" in line]
    parts = {name: (line["time"], values) for line in rows for name, values in line["parts"]}
    if not rows:
        return set(), {}
    times = quietly("query the rows that W&B has", _times, run)
    if times is None:
        return set(parts), {}
    arrived = [line for line in rows if wandb_log.microseconds(line["time"]) in times]
    there = {name for line in arrived for name, _ in line["parts"]}
    return there, {name: part for name, part in parts.items() if name not in there}


def _times(run: Any) -> set[int]:
    """Return the times, in microseconds, of all rows of *run* that W&B has."""
    if not run.offline:
        return _on_server(run)
    return {time for log in _logs(run) for time in _in_log(log)}


def _logs(run: Any) -> list[Path]:
    own = Path(run.dir).parent
    logs = own.parent.glob(f"*run-*-{run.id}/run-{run.id}.wandb")
    return [log for log in logs if log.parent != own]


def _in_log(log: Path) -> Iterator[int]:
    for entry in wandb_log.records(log.read_bytes()):
        if entry.WhichOneof("record_type") == "history":
            yield wandb_log.time_of(entry.history.item)


def _on_server(run: Any) -> set[int]:
    wandb = sys.modules["wandb"]
    stored = wandb.Api(timeout=API_TIMEOUT_S).run(f"{run.entity}/{run.project}/{run.id}")
    rows = stored.scan_history(keys=["_timestamp"], page_size=10_000)
    return {wandb_log.microseconds(row.get("_timestamp")) for row in rows}


def link_media(run: Any, values: Sequence[Row]) -> None:
    """Let *run* upload the images and tables of a lost row, which an earlier start wrote."""
    quietly("find the media of a lost row", _link_media, run, values)


def _link_media(run: Any, values: Sequence[Row]) -> None:
    own = Path(run.dir)
    for name in media(list(values)):
        sources = [log.parent / "files" / name for log in _logs(run)]
        source = next((path for path in sources if path.is_file()), None)
        if source is not None and not (own / name).exists():
            (own / name).parent.mkdir(parents=True, exist_ok=True)
            _link(source, own / name)
            run._interface.publish_files({"files": [(name, "now")]})


def _link(source: Path, target: Path) -> None:
    with contextlib.suppress(OSError):
        os.link(source, target)
        return
    shutil.copy2(source, target)


def media(value: Any) -> Iterator[str]:
    """Yield the files that a value of a row names."""
    if isinstance(value, dict):
        named = [value.get("path"), *(value.get("filenames") or ())]
        yield from (n for n in named if isinstance(n, str) and n.startswith("media/"))
        for nested in value.values():
            yield from media(nested)
    elif isinstance(value, list):
        for nested in value:
            yield from media(nested)
