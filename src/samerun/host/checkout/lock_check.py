"""Whether what is asked for and what is locked agree, without resolving anything."""

import re
import tomllib
from collections.abc import Iterator
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from samerun.core.errors import LockStale
from samerun.host.checkout.lock import CPU_LOCK, EXPORTS
from samerun.host.checkout.project import Project, variant


def check_lock(project: Project, cuda: str) -> None:
    """
    Raise unless pyproject.toml, uv.lock and the locks read off it say the same.

    The build installs from the locks alone, so that a difference would otherwise go
    into an image unseen.

    Raises:
        LockStale: With each difference.
    """
    if cuda == "none" and not (project.root / CPU_LOCK).is_file():
        raise LockStale(
            f"{CPU_LOCK} is not there: the CPU-only image needs an index with torch's CPU builds, "
            "which PyPI is not.",
            "Run `invoke lock --cpu-index https://download.pytorch.org/whl/cpu`, or give your "
            "own index; the image of `invoke build` without --cuda none runs on the CPU too.",
        )
    uv_lock = tomllib.loads((project.root / "uv.lock").read_text(encoding="utf-8"))
    differences = [*_asked(project, uv_lock), *_exported(project, uv_lock, cuda)]
    if differences:
        lines = "\n".join(f"  {line}" for line in differences)
        raise LockStale(f"The sources and the locks disagree:\n{lines}", "Run `invoke lock`.")


def _asked(project: Project, uv_lock: dict[str, Any]) -> Iterator[str]:
    """Yield where pyproject.toml asks for other than uv.lock was made for."""
    pyproject = tomllib.loads((project.root / "pyproject.toml").read_text(encoding="utf-8"))
    metadata = _own(uv_lock)["metadata"]
    recorded = metadata.get("requires-dev", {})
    groups = pyproject.get("dependency-groups", {})
    for group in sorted(groups.keys() | recorded.keys()):
        yield from _compare(group, groups.get(group, ()), recorded.get(group, ()))
    plain = [entry for entry in metadata["requires-dist"] if "marker" not in entry]
    yield from _compare("dependencies", pyproject["project"]["dependencies"], plain)


def _compare(where: str, asked: Any, recorded: Any) -> Iterator[str]:
    requirements = [Requirement(line) for line in asked]
    ours = {canonicalize_name(r.name): str(r.specifier) for r in requirements}
    theirs = {entry["name"]: _normal(entry.get("specifier", "")) for entry in recorded}
    for name in sorted(ours.keys() | theirs.keys()):
        if ours.get(name) != theirs.get(name):
            yield (
                f"{where}: pyproject.toml asks {name}{_told(ours.get(name))}, "
                f"uv.lock was made for {name}{_told(theirs.get(name))}"
            )


def _normal(specifier: str) -> str:
    return str(Requirement(f"x{specifier}").specifier)


def _told(specifier: str | None) -> str:
    return " (not at all)" if specifier is None else specifier


def _exported(project: Project, uv_lock: dict[str, Any], cuda: str) -> Iterator[str]:
    """Yield what a lock read off uv.lock pins otherwise than uv.lock itself."""
    hashes = _hashes(uv_lock)
    for group in ("image-tools", variant(cuda)):
        if group not in EXPORTS:  # The CPU builds are not PyPI's: their lock is their own.
            continue
        path = project.root / EXPORTS[group]
        pins = read_pins(path.read_text(encoding="utf-8"))
        for (name, version), known in sorted(pins.items()):
            if (name, version) not in hashes:
                yield f"{EXPORTS[group]} pins {name} {version}, which uv.lock does not"
            elif not known <= hashes[name, version]:
                yield f"{EXPORTS[group]} has a hash of {name} {version} that uv.lock has not"


def read_pins(text: str) -> dict[tuple[str, str], set[str]]:
    """Return the hashes by name and version of a requirements file with hashes."""
    pins: dict[tuple[str, str], set[str]] = {}
    for block in re.split(r"\n(?=\S)", text):
        found = re.match(r"([\w.-]+)==([^\s;\\]+)", block)
        if found:
            pins[canonicalize_name(found[1]), found[2]] = set(re.findall(r"sha256:\w+", block))
    return pins


def _own(lock: dict[str, Any]) -> dict[str, Any]:
    return next(p for p in lock["package"] if p["source"].get("editable") == ".")


def _hashes(lock: dict[str, Any]) -> dict[tuple[str, str], set[str]]:
    return {
        (p["name"], p["version"]): {
            file["hash"] for file in [*p.get("wheels", ()), p.get("sdist", {})] if "hash" in file
        }
        for p in lock["package"]
        if "version" in p
    }
