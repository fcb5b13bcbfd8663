"""
Say where data is, to a script that asks for it by the host's path.

The container has the data at ``/data`` or ``/data/NAME``. The path of a laptop, of Kaggle or of a
colleague does not exist there.
"""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from samerun.core import contract
from samerun.train.report import reporting

# Paths of the container, about which there is nothing to say.
_OWN = tuple(
    f"{folder}/"
    for folder in (
        *(contract.OUTPUT, contract.CODE, "/dev", "/etc", "/lib", "/opt", "/proc", "/run", "/sys"),
        *("/tmp", "/usr", "/var"),
    )
)
_told: set[str] = set()


def tell(path: object) -> None:
    """Print where the data is that *path* names, which does not exist; once for each path."""
    if not isinstance(path, str | os.PathLike) or not reporting.is_recorded():
        return
    text = moved(os.fspath(path), _data())
    if text and text not in _told and reporting.rank() == 0:
        _told.add(text)
        sys.stderr.write(f"samerun: {text}\n")


def of(error: BaseException) -> str:
    """Return a hint about the path that *error* names, if it does not exist; else empty."""
    asked = getattr(error, "filename", None)
    missing = isinstance(error, FileNotFoundError | NotADirectoryError)
    if not missing or not isinstance(asked, str | os.PathLike) or not reporting.is_recorded():
        return ""
    return hint(os.fspath(asked), _data())


def _data() -> list[tuple[str, str]]:
    """Return source and mount point of the run's data, from its record."""
    # Imported late, because every Python process of the container loads this module.
    from samerun.core import record

    try:
        data = record.read(reporting.folder()).data
    except Exception:  # noqa: BLE001 - a hint must not fail
        return []
    return [(entry.source, entry.target) for entry in data]


def moved(asked: str, data: Sequence[tuple[str, str]]) -> str:
    """Return where the data is that *asked* names; *data* are sources and mount points."""
    inside = None if asked.startswith(contract.DATA) else next(_inside(_parts(asked), data), None)
    return f"{asked} is not in the container: there, this data is {inside}." if inside else ""


def hint(asked: str, data: Sequence[tuple[str, str]]) -> str:
    """Return what to use instead of the path *asked*, which ended the training."""
    if asked == contract.DATA or asked.startswith(f"{contract.DATA}/"):
        return _about_data(asked, data)
    text = moved(asked, data)
    for source, target in data:
        if not text and source and Path(asked).is_relative_to(source):
            text = f"{asked} is not in the container, which has {source} at {target}."
    if text or not asked.startswith("/") or asked.startswith(_OWN):
        return text
    seen = ", ".join(target for _, target in data)
    if seen:
        return f"{asked} is not in the container, which has your data at {seen}."
    return f"{asked} is not in the container: pass its folder with --data; it is then /data."


def _about_data(asked: str, data: Sequence[tuple[str, str]]) -> str:
    """Return a hint about a path below ``/data``, which has names or none at all."""
    targets = [target for _, target in data]
    if not targets:
        return f"{asked} does not exist, because the run has no data: pass its folder with --data."
    if any(asked == target or asked.startswith(f"{target}/") for target in targets):
        return ""
    return f"{asked} does not exist: the run has its data at {', '.join(targets)}."


def _parts(asked: str) -> list[str]:
    """Return the names in *asked*, without this container's home folder."""
    path, home = Path(asked), Path(os.environ.get("HOME", "/"))
    if path.is_relative_to(home):
        path = path.relative_to(home)
    return [part for part in path.parts if part not in ("/", "..")]


def _inside(parts: Sequence[str], data: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Yield the paths in the container, the one first whose host path agrees most."""
    found = []
    for source, target in data:
        ending = [part for part in Path(source).parts if part != "/"]
        for start in range(len(parts)):
            for length in range(min(len(ending), len(parts) - start), 0, -1):
                if parts[start : start + length] == ending[-length:]:
                    inside = Path(target, *parts[start + length :])
                    found.append((length, str(inside)))
    yield from (inside for _, inside in sorted(found, reverse=True) if Path(inside).exists())
