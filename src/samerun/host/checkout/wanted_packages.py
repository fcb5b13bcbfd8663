"""
The Python packages that a project asks for, besides those of the image.

They come from ``--with``, and from the project's settings, or else its requirements.txt, or else
the dependencies of its pyproject.toml. Its uv.lock says which versions are preferred.
"""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from samerun.core.errors import PackageError
from samerun.host.checkout import settings

REQUIREMENTS, PYPROJECT, UV_LOCK = "requirements.txt", "pyproject.toml", "uv.lock"
FIXED = ("torch", "torchvision", "fastai", "wandb")
"""Packages that stay the image's, whatever version a file of the project asks for."""
# Options of a requirements file that say where packages are; others are refused.
_INDEXES = ("--index-url", "-i", "--extra-index-url", "--find-links", "-f", "--no-index")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A requirement, and where it is written."""

    text: str
    source: str

    @property
    def requirement(self) -> Requirement:
        """The requirement, parsed."""
        return Requirement(self.text)

    @property
    def name(self) -> str:
        """The normalized name of the package."""
        return canonicalize_name(self.requirement.name)

    @property
    def is_named(self) -> bool:
        """Whether it was asked for by name for samerun, and so may replace one of the image."""
        return self.source not in (REQUIREMENTS, PYPROJECT)


@dataclass(frozen=True, kw_only=True)
class Packages:
    """
    All that a project asks for.

    *indexes* are the lines of its file that say from where; *preferred* has the versions in the
    project's uv.lock, by name.
    """

    wanted: tuple[Wanted, ...] = ()
    indexes: tuple[str, ...] = ()
    preferred: Mapping[str, str] = field(default_factory=dict)
    # What is left out, in a sentence each.
    notes: tuple[str, ...] = ()


def given(texts: Sequence[str]) -> Packages:
    """Return what was given as ``--with``, for a recipe, which has no project."""
    return Packages(wanted=tuple(_wanted(text, "--with") for text in texts))


def of(root: Path, texts: Sequence[str]) -> Packages:
    """
    Return what the project in *root* asks for, with *texts* given as ``--with``.

    Raises:
        PackageError: A line is no requirement, or asks for what can't be locked.
    """
    own = settings.read(root)
    named = [_wanted(text, "--with") for text in texts]
    named += [_wanted(text, own.file) for text in own.packages or ()]
    indexes: list[str] = []
    notes: list[str] = []
    filed = () if own.packages is not None else _filed(root, indexes, notes)
    replaced = {one.name for one in named}
    kept = [one for one in filed if one.name not in replaced]
    wanted = (*named, *kept)
    preferred = _preferred(root / UV_LOCK) if wanted else {}
    return Packages(wanted=wanted, indexes=tuple(indexes), preferred=preferred, notes=tuple(notes))


def _filed(root: Path, indexes: list[str], notes: list[str]) -> list[Wanted]:
    """Return what the files of the project in *root* ask for; add to *indexes* and *notes*."""
    if (root / REQUIREMENTS).is_file():
        return list(_of_file(root / REQUIREMENTS, indexes, notes, ()))
    return [_wanted(text, PYPROJECT) for text in _dependencies(root / PYPROJECT)]


def _wanted(text: str, source: str) -> Wanted:
    wanted = Wanted(text=text.strip(), source=source)
    try:
        url = wanted.requirement.url
    except InvalidRequirement as error:
        raise PackageError(
            f"{text!r} ({source}) is not a requirement: {str(error).splitlines()[0]}.",
            "Write NAME, or NAME with a version, as in 'timm>=1.0'.",
        ) from None
    if url is not None:
        raise PackageError(
            f"{text!r} ({source}) is a package at an address, which can change there.",
            "Use a release from an index, or add the package to the project as a submodule.",
        )
    return wanted


def _toml(path: Path) -> dict[str, Any]:
    """Return a TOML file; nothing if there is none."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise PackageError(f"{path} can't be read: {error}.", "Correct it: it is TOML.") from error


def _preferred(path: Path) -> dict[str, str]:
    """Return the versions in a project's uv.lock that come from an index."""
    found = _toml(path).get("package", [])
    entries = [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
    versions: dict[str, set[str]] = {}
    for one in entries:
        source = one.get("source")
        if isinstance(source, dict) and "registry" in source:
            versions.setdefault(str(one.get("name")), set()).add(str(one.get("version")))
    # A package that is locked for several platforms, with a version for each, has no preference.
    pairs = ((name, *found) for name, found in versions.items() if len(found) == 1)
    return {canonicalize_name(name): version for name, version in pairs if _is_version(version)}


def _is_version(text: str) -> bool:
    """Whether *text* is a version of Python's packages."""
    try:
        Version(text)
    except InvalidVersion:
        return False
    return True


def _dependencies(path: Path) -> list[str]:
    table = _toml(path).get("project", {})
    found = table.get("dependencies", []) if isinstance(table, dict) else None
    if isinstance(found, list) and all(isinstance(one, str) for one in found):
        return found
    raise PackageError(
        f"The dependencies in {path} are not a list of texts.", 'Write dependencies = ["…"].'
    )


def _of_file(
    path: Path, indexes: list[str], notes: list[str], above: tuple[Path, ...]
) -> Iterator[Wanted]:
    if path.resolve() in above:
        raise PackageError(f"{path} includes itself.", "Remove its line with -r.")
    for line in _lines(path):
        if line.startswith(_INDEXES):
            indexes.append(line)
        elif line.startswith(("-r", "--requirement")):
            name = line.removeprefix("--requirement").removeprefix("-r").lstrip("= ").strip()
            yield from _of_file(path.parent / name, indexes, notes, (*above, path.resolve()))
        elif line.startswith(("-e", "--editable", ".", "/")):
            notes.append(
                f"{path.name}: {line!r} is left out; the project's own code is in the image, and "
                "its root and src/ can be imported."
            )
        elif line.startswith("-"):
            notes.append(f"{path.name}: {line!r} is left out.")
        else:
            # Hashes are those of another lock; samerun.lock has its own.
            yield _wanted(line.partition(" --hash")[0], REQUIREMENTS)


def _lines(path: Path) -> Iterator[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise PackageError(f"{path} can't be read: {error}.", "Correct it.") from error
    for line in text.replace("\\\r\n", " ").replace("\\\n", " ").splitlines():
        kept = f" {line}".partition(" #")[0].strip()
        if kept:
            yield kept
