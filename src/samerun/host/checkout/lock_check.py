"""Check that requirements and lock files agree, without resolving anything."""

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
    Check that pyproject.toml, uv.lock and the lock files exported from it agree.

    The build installs only what is in the lock files, so a difference would otherwise get
    into an image unnoticed.

    Raises:
        LockStale: They differ; the message lists each difference.
    """
    if cuda == "none" and not (project.root / CPU_LOCK).is_file():
        raise LockStale(
            f"{CPU_LOCK} does not exist: the CPU-only image needs an index with CPU builds of "
            "torch, which PyPI does not have.",
            "Run `invoke lock --cpu-index https://download.pytorch.org/whl/cpu`, or give another "
            "index. The image of `invoke build` without --cuda none runs on the CPU too.",
        )
    uv_lock = tomllib.loads((project.root / "uv.lock").read_text(encoding="utf-8"))
    differences = [
        *_requirement_differences(project, uv_lock),
        *_pin_differences(project, uv_lock, cuda),
    ]
    if differences:
        lines = "\n".join(f"  {line}" for line in differences)
        raise LockStale(f"Requirements and lock files disagree:\n{lines}", "Run `invoke lock`.")


def _requirement_differences(project: Project, uv_lock: dict[str, Any]) -> Iterator[str]:
    """Yield a line for each requirement in pyproject.toml that differs from uv.lock's."""
    pyproject = tomllib.loads((project.root / "pyproject.toml").read_text(encoding="utf-8"))
    metadata = _own(uv_lock)["metadata"]
    recorded = metadata.get("requires-dev", {})
    groups = pyproject.get("dependency-groups", {})
    for group in sorted(groups.keys() | recorded.keys()):
        yield from _compare(group, groups.get(group, ()), recorded.get(group, ()))
    plain = [entry for entry in metadata["requires-dist"] if "marker" not in entry]
    yield from _compare("dependencies", pyproject["project"]["dependencies"], plain)


def _compare(where: str, current: Any, recorded: Any) -> Iterator[str]:
    requirements = [Requirement(line) for line in current]
    ours = {canonicalize_name(r.name): str(r.specifier) for r in requirements}
    theirs = {entry["name"]: _normal(entry.get("specifier", "")) for entry in recorded}
    for name in sorted(ours.keys() | theirs.keys()):
        if ours.get(name) != theirs.get(name):
            yield (
                f"{where}: pyproject.toml requires {name}{_text(ours.get(name))}, "
                f"uv.lock was made for {name}{_text(theirs.get(name))}"
            )


def _normal(specifier: str) -> str:
    return str(Requirement(f"x{specifier}").specifier)


def _text(specifier: str | None) -> str:
    return " (not at all)" if specifier is None else specifier


def _pin_differences(project: Project, uv_lock: dict[str, Any], cuda: str) -> Iterator[str]:
    """Yield a line for each pin in an exported lock file that differs from uv.lock."""
    hashes = _hashes(uv_lock)
    for group in ("image-tools", variant(cuda)):
        if group not in EXPORTS:  # The CPU variant's lock file is not exported from uv.lock.
            continue
        path = project.root / EXPORTS[group]
        pins = read_pins(path.read_text(encoding="utf-8"))
        for (name, version), known in sorted(pins.items()):
            if (name, version) not in hashes:
                yield f"{EXPORTS[group]} pins {name} {version}, which is not in uv.lock"
            elif not known <= hashes[name, version]:
                yield f"{EXPORTS[group]} has a hash of {name} {version} that is not in uv.lock"


def read_pins(text: str) -> dict[tuple[str, str], set[str]]:
    """Return the hashes in a requirements file, by name and version."""
    pins: dict[tuple[str, str], set[str]] = {}
    for block in re.split(r"\n(?=\S)", text):
        match = re.match(r"([\w.-]+)==([^\s;\\]+)", block)
        if match:
            pins[canonicalize_name(match[1]), match[2]] = set(re.findall(r"sha256:\w+", block))
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
