"""
Paths of this machine in a run's arguments and script, which the container does not have.

Only what exists on this machine counts, so a path of the container is never taken for one.
"""

import ast
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from samerun.core import contract
from samerun.host.launch.data import Present

# Folders that the container has as well.
COMMON = (
    *(contract.CODE, contract.DATA, contract.OUTPUT, "/bin", "/dev", "/etc", "/lib", "/opt"),
    *("/proc", "/run", "/sys", "/tmp", "/usr", "/var"),  # noqa: S108
)


def notes(arguments: Sequence[str], script: Path | None, data: Sequence[Present]) -> Iterator[str]:
    """Yield a line for each path of this machine in *arguments* and in *script*."""
    for argument in arguments:
        # As in --path=/mnt/photos.
        text = re.sub(r"^-[\w-]*=", "", argument)
        yield from _note(text, f"The argument {argument}", data)
    for text in dict.fromkeys(_texts(script)) if script else ():
        yield from _note(text, f"{text} in {script}", data)


def _note(text: str, what: str, data: Sequence[Present]) -> Iterator[str]:
    if not text.startswith(("/", "~/")) or "\0" in text:
        return
    path = Path(text).expanduser()
    if not _exists(path):
        return
    inside = next((at for one in data if (at := _inside(path, one))), None)
    if inside is not None:
        yield f"{what} is a path of this machine; in the container it is {inside}."
    elif not _is_common(path):
        yield f"{what} is a path of this machine, which the container does not have (use --data)."


def _is_common(path: Path) -> bool:
    return len(path.parts) < 3 or any(path.is_relative_to(folder) for folder in COMMON)  # noqa: PLR2004


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # Too long for a path, or not allowed.
        return False


def _inside(path: Path, one: Present) -> str | None:
    source = Path(one.entry.source)
    for candidate in (path.absolute(), path.resolve()):
        if candidate.is_relative_to(source):
            return str(Path(one.entry.target) / candidate.relative_to(source))
    return None


def _texts(script: Path) -> Iterator[str]:
    """Yield the texts in the code of *script*; none if it can't be parsed."""
    try:
        tree = ast.parse(script.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
