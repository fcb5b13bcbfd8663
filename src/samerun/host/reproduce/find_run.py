"""RUN of a command: a run of this machine by name or folder, or one in W&B by its path."""

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

# Also the address of its page: https://wandb.ai/entity/project/runs/id
_PART = r"[^/\s?#]+"
IN_WANDB = re.compile(
    rf"(?:https?://{_PART}/)?(?P<entity>{_PART})/(?P<project>{_PART})/(?:runs/)?(?P<id>{_PART})/?"
)


@dataclass(frozen=True, kw_only=True)
class FoundRun:
    """
    A run and where it was found.

    *link* is what another run names it by: its name, or entity/project/id.
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
        """Where its record was found."""
        return "W&B" if self.wandb else "here"


def find(name: str, output: str, key_file: str | None) -> FoundRun:
    """
    Return the run *name*: a folder, a name under *output*, or a path or address in W&B.

    Raises:
        OutputError: There is none of that name, and it is no W&B path.
        RecordError, KeyFileError: Its record can't be read, or not be had from W&B.
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
    """Return the W&B path that *name* is; None if it is none."""
    found = IN_WANDB.fullmatch(name)
    return records.Path(**found.groupdict()) if found else None


def _from_wandb(path: records.Path, key_file: str | None) -> FoundRun:
    key = keys.find(Path(key_file).expanduser() if key_file else None)
    files = records.fetch(path, key)
    if contract.RECORD not in files:
        raise RecordError(
            f"W&B's record of {path} holds no {contract.RECORD}.", "Reproduce it from its folder."
        )
    try:
        run = record.from_json(files[contract.RECORD].decode())
    except UnicodeDecodeError as error:
        raise RecordError(
            f"W&B's record of {path} is not text.", "Reproduce it from its folder."
        ) from error
    content = files.get(Path(contract.STEPS).name, b"")
    return FoundRun(trace=traces.trace_of(run, content), link=str(path), wandb=path)


def refuse_same(one: FoundRun, two: FoundRun) -> None:
    """Refuse to compare a run with itself: nothing would be learned."""
    if one.link == two.link and one.folder == two.folder:
        raise UsageError(f"{one.link} is compared with itself.", "Give two runs.")
