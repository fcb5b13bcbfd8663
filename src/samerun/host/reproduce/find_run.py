"""Find a run: on this machine by name or folder, or in W&B by its path."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from samerun.core import contract, record
from samerun.core.errors import OutputError, RecordError, UsageError
from samerun.core.record import Run
from samerun.host.reproduce import traces
from samerun.host.reproduce.traces import Trace
from samerun.host.run import integrity
from samerun.host.run.folders import folder_of
from samerun.host.tracking import keys, records

# Also the URL of its page: https://wandb.ai/entity/project/runs/id
_PART = r"[^/\s?#]+"
IN_WANDB = re.compile(
    rf"(?:https?://{_PART}/)?(?P<entity>{_PART})/(?P<project>{_PART})/(?:runs/)?(?P<id>{_PART})/?"
)


@dataclass(frozen=True, kw_only=True)
class FoundRun:
    """
    A run and where it was found.

    *link* identifies it in the records of other runs: its name, or entity/project/id.
    """

    trace: Trace
    link: str
    folder: Path | None = None
    wandb: records.Path | None = None

    @property
    def run(self) -> Run:
        """Its record."""
        return self.trace.run

    @property
    def where(self) -> Literal["W&B", "here"]:
        """Where the record was found."""
        return "W&B" if self.wandb else "here"


def find(name: str, output: str, key_file: str | None) -> FoundRun:
    """
    Return the run *name*: a folder, a name under *output*, or a path or URL in W&B.

    Raises:
        OutputError: There is no such run, and the name is not a W&B path.
        RecordError, KeyFileError: Its record can't be read, or not downloaded from W&B.
    """
    try:
        folder = folder_of(name, output)
    except OutputError:
        path = in_wandb(name)
        if path is None:
            raise OutputError(
                f"There is no run {name!r} here or in {output}/.",
                "Give its name, its folder, or entity/project/id in W&B.",
            ) from None
        return _from_wandb(path, key_file)
    return local(folder)


def local(folder: Path) -> FoundRun:
    """
    Return the run in *folder*.

    Raises:
        RecordError: Its record can't be read, or was changed since the run was started.
    """
    run = record.read(folder)
    integrity.verify(folder, run)
    return FoundRun(trace=traces.trace(run, folder), link=run.name, folder=folder)


def in_wandb(name: str) -> records.Path | None:
    """Parse *name* as a W&B path or URL; None if it is neither."""
    match = IN_WANDB.fullmatch(name)
    return records.Path(**match.groupdict()) if match else None


def _from_wandb(path: records.Path, key_file: str | None) -> FoundRun:
    key = keys.find(Path(key_file).expanduser() if key_file else None)
    files = records.fetch(path, key)
    if contract.RECORD not in files:
        raise RecordError(
            f"The record of {path} in W&B has no {contract.RECORD}.",
            "Use the run's folder on the machine that ran it.",
        )
    try:
        run = record.from_json(files[contract.RECORD].decode())
    except UnicodeDecodeError as error:
        raise RecordError(
            f"The record of {path} in W&B is not text.",
            "Use the run's folder on the machine that ran it.",
        ) from error
    content = files.get(Path(contract.STEPS).name, b"")
    return FoundRun(trace=traces.trace_of(run, content), link=str(path), wandb=path)


def refuse_same(one: FoundRun, two: FoundRun) -> None:
    """Refuse to compare a run with itself."""
    if one.link == two.link and one.folder == two.folder:
        raise UsageError(f"Both runs are {one.link}.", "Give two different runs.")
