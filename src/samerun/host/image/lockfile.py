"""
``image.lock.json``: the outputs and inputs of a build.

One entry per variant of the image. `invoke build` writes it, and `invoke build --frozen`
compares the next build with it. The digests of a bootstrapped base follow Debian's mirror,
so the user decides whether to commit the file.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samerun.core import contract
from samerun.core.errors import LockStale
from samerun.core.files import write_atomically
from samerun.core.record import Base, Image
from samerun.host.checkout import git
from samerun.host.checkout.lock import CPU_LOCK, EXPORTS
from samerun.host.checkout.project import Project, variant
from samerun.host.image import build, buildkit
from samerun.host.machine import engine

if TYPE_CHECKING:
    from docker import DockerClient

FILE = "image.lock.json"
SCHEMA = 1
# These must not change. The manifest's digest also covers the compression, so it is
# compared only between stores of the same kind.
SEALED = ("layers_digest", "config_digest", "manifest_digest")


@dataclass(frozen=True, kw_only=True)
class LockEntry:
    """One variant; digests start with ``sha256:``, file hashes are SHA-256 in hexadecimal."""

    layers_digest: str
    config_digest: str | None
    manifest_digest: str | None
    index_digest: str | None
    store: str
    platform: str
    base: Base
    files: dict[str, str]
    inputs: str | None
    epoch: int
    engine: str
    buildkit: str | None
    commit: str | None


def build_and_lock(
    project: Project,
    *,
    cuda: str,
    base_choice: str,
    no_cache: bool,
    frozen: bool,
    say: Callable[[str], None],
) -> Image:
    """
    Build the image of this checkout, then write the lock, or with *frozen* compare with it.

    Raises:
        LockStale: With *frozen*: the image is not the locked one.
    """
    client = engine.connect()
    image = build.ensure(
        client, project, cuda=cuda, base_choice=base_choice, no_cache=no_cache, say=say
    )
    entry = entry_of(client, project, image, cuda)
    if frozen:
        check_frozen(project, cuda, entry)
    else:
        write(project, cuda, entry)
    return image


def entry_of(client: "DockerClient", project: Project, image: Image, cuda: str) -> LockEntry:
    """Return the lock entry of *image*, which was built from this checkout."""
    return LockEntry(
        layers_digest=image.layers_digest,
        config_digest=image.config_digest,
        manifest_digest=image.manifest_digest,
        index_digest=image.index_digest,
        store=image.store,
        platform=image.platform,
        base=image.base,
        files=_hash_files(project, cuda),
        inputs=image.inputs,
        epoch=contract.EPOCH,
        engine=engine.inspect(client).version,
        buildkit=buildkit.version(),
        commit=git.state_of(project.root).commit,
    )


def write(project: Project, cuda: str, entry: LockEntry) -> Path:
    """Write *entry* to the file; entries of other variants stay."""
    path = project.root / FILE
    images = {**read(project), variant(cuda): asdict(entry)}
    write_atomically(path, json.dumps({"schema": SCHEMA, "images": images}, indent=2) + "\n")
    return path


def read(project: Project) -> dict[str, Any]:
    """Return the entries by variant; empty if the file is missing or unreadable."""
    try:
        text = (project.root / FILE).read_text(encoding="utf-8")
        return dict(json.loads(text)["images"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}


def check_frozen(project: Project, cuda: str, entry: LockEntry) -> None:
    """
    Compare *entry* with the one in the file.

    Raises:
        LockStale: There is none, or a digest differs; the message lists changed inputs.
    """
    locked = read(project).get(variant(cuda))
    if locked is None:
        raise LockStale(
            f"{FILE} has no entry for the variant {variant(cuda)}.",
            "Run `invoke build` once without --frozen, and commit the file.",
        )
    ours = asdict(entry)
    lines = [f"  {path}: {was} -> {now}" for path, was, now in differences(locked, ours)]
    if any(_differs(locked, ours, name) for name in SEALED):
        listed = "\n".join(lines)
        raise LockStale(
            f"The image differs from {FILE}:\n{listed}",
            "Restore the locked sources, or run `invoke build` without --frozen.",
        )


def _differs(locked: dict[str, Any], ours: dict[str, Any], name: str) -> bool:
    if name == "manifest_digest" and locked["store"] != ours["store"]:
        return False
    return None not in (locked[name], ours[name]) and locked[name] != ours[name]


def differences(
    locked: dict[str, Any], ours: dict[str, Any], prefix: str = ""
) -> list[tuple[str, Any, Any]]:
    """Return path, locked value and current value of every field that differs."""
    fields: list[tuple[str, Any, Any]] = []
    for name in sorted(locked.keys() | ours.keys()):
        was, now = locked.get(name), ours.get(name)
        if isinstance(was, dict) and isinstance(now, dict):
            fields += differences(was, now, f"{prefix}{name}.")
        elif was != now:
            fields.append((f"{prefix}{name}", was, now))
    return fields


def _hash_files(project: Project, cuda: str) -> dict[str, str]:
    """Return the hashes of the Dockerfile and the lock files of the variant."""
    torch = EXPORTS.get(variant(cuda), CPU_LOCK)
    names = ("Dockerfile", "uv.lock", torch, EXPORTS["image-tools"])
    return {name: project.file_sha256(name) for name in names}
