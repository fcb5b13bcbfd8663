"""
Lock what a project asks for against the image's own versions, in the file samerun.lock.

uv resolves it for the image's Python and platform, not for this machine's. The image's packages
are constraints, so none of them changes unless it is replaced by name; only wheels are taken,
because the image has no compiler. The lock holds what the image lacks, with hashes.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from samerun.core.errors import PackageError
from samerun.core.files import write_atomically
from samerun.host.checkout import wanted_packages
from samerun.host.checkout.wanted_packages import Packages, Wanted
from samerun.host.image import buildkit

FILE = "samerun.lock"
PLATFORM = "x86_64-manylinux_2_36"
_HEADER = "# What samerun adds to its image for this project. It writes this file.\n# inputs: "
_PINNED = re.compile(r"^([A-Za-z0-9][\w.-]*)==(\S+)", re.MULTILINE)
# torch names it on Linux, but the image goes without it: it needs a C compiler at run time.
_OVERRIDES = "triton; sys_platform == 'never'\n"
_LINES_SHOWN = 12


@dataclass(frozen=True, kw_only=True)
class Under:
    """The image under the packages: its Python's version, and the packages that it has."""

    python: str
    installed: Mapping[str, str]

    def version(self, name: str) -> str | None:
        """Return the public version of a package: without +cpu and the like."""
        found = self.installed.get(name)
        return found.partition("+")[0] if found else None


@dataclass(frozen=True, kw_only=True)
class Lock:
    """The packages to add, as a requirements file with hashes."""

    text: str

    @property
    def pins(self) -> dict[str, str]:
        """The versions by name."""
        return dict(_PINNED.findall(self.text))


def under(facts: Mapping[str, object], reference: str) -> Under:
    """
    Return what the description of an image says about its packages.

    Raises:
        PackageError: samerun did not build the image.
    """
    installed = facts.get("installed")
    if not isinstance(installed, list) or not isinstance(facts.get("python"), str):
        raise PackageError(
            f"{reference} was not built by samerun, so its packages are unknown.",
            "Omit the packages, or omit --image.",
        )
    python = (one for one in installed if one.get("kind") == "python")
    versions = {str(one["name"]): str(one["version"]) for one in python}
    return Under(python=str(facts["python"]), installed=versions)


def lock(
    folder: Path, packages: Packages, image: Under, state: Path, say: Callable[[str], None]
) -> Lock | None:
    """
    Return the lock of *packages* for *image*, from *folder* if it is current.

    None: the image has them all.

    Raises:
        PackageError: They conflict, do not exist, or can't be looked up.
    """
    for note in packages.notes:
        say(note)
    missing = [one for one in packages.wanted if _is_missing(one, image, say)]
    if not missing:
        return None
    key = _key(missing, image, packages.preferred)
    path = folder / FILE
    before = _read(path)
    if before.startswith(_HEADER + key):
        return Lock(text=before)
    say(f"Locking {', '.join(one.text for one in missing)} …")
    for note in _differing(packages.preferred, image):
        say(note)
    before = _preferring(packages.preferred, before)
    found = _resolve(folder, missing, packages.indexes, image, before, state)
    text = f"{_HEADER}{key}\n{_without(found, image)}"
    try:
        write_atomically(path, text)
    except OSError as error:
        say(f"{path} can't be written ({error.strerror}), so these packages are locked each time.")
    return Lock(text=text)


def _is_missing(wanted: Wanted, image: Under, say: Callable[[str], None]) -> bool:
    """
    Whether the image lacks *wanted*.

    Raises:
        PackageError: The image has another version, and *wanted* does not replace it by name.
    """
    marker = wanted.requirement.marker
    environment = {"python_full_version": image.python, "sys_platform": "linux"}
    environment |= {"python_version": ".".join(image.python.split(".")[:2])}
    if marker is not None and not marker.evaluate({**environment, "extra": ""}):
        return False
    has = image.version(wanted.name)
    if has is None:
        return True
    if _fits(wanted.requirement.specifier, has):
        return bool(wanted.requirement.extras)
    if wanted.is_named:
        return True
    if wanted.name in wanted_packages.FIXED:
        say(f"{wanted.source} asks for {wanted.text}; the image's {wanted.name} {has} stays.")
        return False
    raise PackageError(
        f"{wanted.source} asks for {wanted.text}, but the image has {wanted.name} {has}, which its "
        "other packages were locked with.",
        f"Change the requirement, or replace the image's package by name: --with '{wanted.text}'. "
        "`packages` in samerun.toml takes the place of the file.",
    )


def _fits(specifier: SpecifierSet, version: str) -> bool:
    try:
        return specifier.contains(Version(version), prereleases=True)
    except InvalidVersion:
        return False


def _differing(preferred: Mapping[str, str], image: Under) -> Iterator[str]:
    """Yield a line about the versions of the project's uv.lock that the image does not have."""
    both = [(name, preferred[name], image.version(name)) for name in sorted(preferred)]
    others = [(n, theirs, ours) for n, theirs, ours in both if ours not in (None, theirs)]
    if others:
        theirs = ", ".join(f"{name} {version}" for name, version, _ in others)
        ours = ", ".join(f"{name} {version}" for name, _, version in others)
        yield f"uv.lock has {theirs}; the image's versions count: {ours}."


def _preferring(preferred: Mapping[str, str], before: str) -> str:
    """Return a lock for uv to keep to: the project's own, then what samerun had locked."""
    blocks = re.split(r"^(?=[A-Za-z0-9])", before, flags=re.MULTILINE)
    pinned = ((_PINNED.match(block), block) for block in blocks)
    kept = [block for found, block in pinned if found and found[1] not in preferred]
    return "".join([*(f"{name}=={preferred[name]}\n" for name in sorted(preferred)), *kept])


def _key(missing: Sequence[Wanted], image: Under, preferred: Mapping[str, str]) -> str:
    installed = sorted(image.installed.items())
    content = [sorted(one.text for one in missing), image.python, installed]
    content += [sorted(preferred.items())] if preferred else []
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""


def _resolve(
    folder: Path,
    missing: Sequence[Wanted],
    indexes: Sequence[str],
    image: Under,
    before: str,
    state: Path,
) -> str:
    """Return all packages that *missing* need, at their versions in *before* where possible."""
    replaced = {one.name for one in missing}
    pins = [f"{n}=={image.version(n)}\n" for n in sorted(image.installed) if n not in replaced]
    files = {"constraints": "".join(pins), "overrides": _OVERRIDES, "locked": before}
    for name, text in files.items():
        (state / f"packages-{name}.txt").write_text(text, encoding="utf-8")
    options = ["pip", "compile", "-", "--python-version", image.python, *_target()]
    options += ["--constraint", str(state / "packages-constraints.txt")]
    options += ["--override", str(state / "packages-overrides.txt")]
    options += ["--generate-hashes", "--no-header", "--no-annotate", "--quiet"]
    options += ["--output-file", str(state / "packages-locked.txt")]
    asked = "\n".join((*indexes, *(one.text for one in missing))) + "\n"
    uv(folder, options, missing, asked)
    return (state / "packages-locked.txt").read_text(encoding="utf-8")


def _target() -> tuple[str, ...]:
    # Without an interpreter given, uv asks each one that it finds for its version.
    chosen = ("--python", sys.executable, "--python-platform", PLATFORM)
    return (*chosen, "--only-binary", ":all:")


def _without(text: str, image: Under) -> str:
    """Return a lock without what the image has."""
    blocks = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)
    kept = []
    for block in blocks:
        found = _PINNED.match(block)
        if found and image.version(found[1]) != found[2].partition("+")[0]:
            kept.append(block)
    return "".join(kept)


def install(folder: Path, locked: Lock, image: Under, target: Path, indexes: Sequence[str]) -> None:
    """
    Install the packages of *locked* to *target*, an empty folder, for the image's Python.

    Raises:
        PackageError: A file can't be fetched, or does not have its hash.
    """
    options = ["pip", "install", "--target", str(target), "--python-version", image.python]
    options += [*_target(), "--no-deps", "--require-hashes", "--link-mode", "copy", "--quiet"]
    text = "\n".join((*indexes, locked.text))
    uv(folder, [*options, "--requirements", "-"], (), text)


def uv(folder: Path, options: Sequence[str], missing: Sequence[Wanted], text: str) -> None:
    """Run uv in *folder*, whose configuration of indexes counts, with *text* as its input."""
    from uv import find_uv_bin

    environment = dict(os.environ)
    bundle = buildkit.find_ca()
    if bundle:
        environment.setdefault("SSL_CERT_FILE", bundle)
    done = subprocess.run(
        [find_uv_bin(), *options],
        cwd=folder, env=environment, input=text, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise _refusal(done.stderr, missing)


def _refusal(output: str, missing: Sequence[Wanted]) -> PackageError:
    """Return the error for what uv says, without the logins that its addresses may have."""
    lines = [line.rstrip() for line in output.splitlines() if line.strip()]
    said = re.sub(r"://[^/@\s]+@", "://", "\n".join(lines[:_LINES_SHOWN]))
    texts = ", ".join(f"{one.text} ({one.source})" for one in missing)
    what = f"The packages can't be locked: {texts}." if missing else "Packages can't be installed."
    return PackageError(f"{what}\n{said}", _remedy(said))


def _remedy(said: str) -> str:
    text = " ".join(said.split())
    if re.search(r"no (usable )?wheels|building .* disabled", text):
        return (
            "There is no wheel for the image, which has no compiler: choose a version with wheels "
            "for Linux, or another package."
        )
    if "Hash mismatch" in text:
        return f"A file is not the one in {FILE}. If it was replaced on purpose, remove {FILE}."
    if re.search(r"Failed to fetch|error sending request|dns error|Connect|timed? ?out", text):
        return "Check the network, the proxy, and the address of the index (UV_DEFAULT_INDEX)."
    if "not found in the" in text:
        return "Check the name, or add the index that has it: UV_INDEX, or a line in a file."
    return (
        "Versions without a source above are those of the image. Change a requirement, or replace "
        "a package of the image by name with --with."
    )
