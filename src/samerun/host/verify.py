"""`invoke verify`: build the image again from nothing, and compare."""

import hashlib
import io
import json
import shutil
import subprocess
import tarfile
import tempfile
import typing
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING

from samerun.errors import NotReproduced
from samerun.host import base, build, buildkit, engine, identity
from samerun.host.project import INPUTS, Project, tag
from samerun.record import Base, Image

if TYPE_CHECKING:
    from docker import DockerClient

CACHE_MOUNT = "type=cache,"
CACHE_ID = "samerun-verify"
DIFFERENCES_SHOWN = 10
ZSTD, GZIP = b"\x28\xb5\x2f\xfd", b"\x1f\x8b"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The two images; equal when `verify` returns."""

    built: Image
    rebuilt: Image


def verify(
    client: "DockerClient", project: Project, cuda: str, say: Callable[[str], None]
) -> Verdict:
    """
    Rebuild base and image in another folder, with other file times, without any cache.

    Raises:
        NotReproduced: With the first files that differ.
    """
    built = build.ensure(client, project, cuda=cuda, say=say)
    base_tag, under = base.provide(client, project, say=say)
    with tempfile.TemporaryDirectory() as folder:
        copy = copy_inputs(project, Path(folder))
        rebuilt_base = _rebuild_base(client, copy, base_tag, under, say)
        plan = build.plan(project, rebuilt_base, under, cuda, no_cache=True)
        verify_tag = f"{tag(cuda)}-verify"
        plan = replace(plan, context=folder, tag=verify_tag)
        _drop_cache()
        say("Building the image again, without any cache …")
        buildkit.run(client, plan, project.state / "verify.log", say)
        build.remember(client, project, plan)
        _drop_cache()
    rebuilt = identity.identify(client, verify_tag)
    _compare(client, built, rebuilt)
    client.api.remove_image(verify_tag)
    return Verdict(built=built, rebuilt=rebuilt)


def copy_inputs(project: Project, folder: Path) -> Project:
    """
    Copy all that a build reads to *folder*, with the times of now.

    The copy's downloads go to a cache of its own, which is empty; mounts do not count in
    an image's history.
    """
    for name in INPUTS:
        source, target = project.root / name, folder / name
        if source.is_dir():
            shutil.copytree(source, target, copy_function=shutil.copyfile)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    dockerfile = folder / "Dockerfile"
    text = dockerfile.read_text(encoding="utf-8")
    dockerfile.write_text(text.replace(CACHE_MOUNT, f"{CACHE_MOUNT}id={CACHE_ID},"), "utf-8")
    return Project(root=folder)


def _rebuild_base(
    client: "DockerClient", copy: Project, base_tag: str, under: Base, say: Callable[[str], None]
) -> str:
    """Return the tag to build on: a bootstrapped base is made again first."""
    if under.origin != "bootstrapped":
        return base_tag
    again = f"{base.REPOSITORY}:verify"
    say("Bootstrapping the base again …")
    base.bootstrap(client, copy, copy.base_pins()["bootstrap"], again)
    first, second = (client.api.inspect_image(name) for name in (base_tag, again))
    client.api.remove_image(again)
    if first["RootFS"]["Layers"] == second["RootFS"]["Layers"]:
        return base_tag
    raise NotReproduced(
        f"The base was {first['Id']} and is {second['Id']} today: Debian's mirror has moved on.",
        f"Remove it (`docker rmi {base_tag}`) and build anew, or build on the pulled base.",
    )


def _drop_cache() -> None:
    """Empty the download cache of earlier verifications."""
    if engine.buildx_version() is None:
        return
    filters = ["--filter", "type=exec.cachemount", "--filter", f"description~=.*{CACHE_ID}.*"]
    command = ["docker", "buildx", "prune", "--force", *filters]
    subprocess.run(command, capture_output=True, check=False)


def _compare(client: "DockerClient", built: Image, rebuilt: Image) -> None:
    if (built.layers_digest, built.digest) == (rebuilt.layers_digest, rebuilt.digest):
        return
    lines = [f"  {line}" for line in differing_files(client, built, rebuilt)]
    if not lines:
        lines = ["  no file differs: only the configuration or the compression"]
    shown = "\n".join(lines[:DIFFERENCES_SHOWN])
    raise NotReproduced(
        f"The image is {built.digest}, the rebuilt one {rebuilt.digest}. First differences:\n"
        f"{shown}",
        f"The rebuilt image stays as {rebuilt.reference} for you to look at.",
    )


def differing_files(client: "DockerClient", first: Image, second: Image) -> list[str]:
    """
    Return the entries that differ in the first layer that does, each with what is different.

    Layer by layer, because a later layer may hide the difference.
    """
    with tempfile.TemporaryDirectory() as folder:
        one, two = (
            _Archive(client, image.reference, Path(folder) / name)
            for name, image in (("first", first), ("second", second))
        )
        pairs = enumerate(zip(one.diff_ids, two.diff_ids, strict=False))
        unequal = next((n for n, (a, b) in pairs if a != b), None)
        if unequal is None:
            return []
        return _compare_layers(one.entries(unequal), two.entries(unequal))


def _compare_layers(one: dict[str, "_Entry"], two: dict[str, "_Entry"]) -> list[str]:
    lines = []
    for path in sorted(one.keys() | two.keys()):
        if path not in one or path not in two:
            lines.append(f"/{path}: only in the {'first' if path in one else 'second'}")
        elif one[path] != two[path]:
            lines.append(f"/{path}: {_told(one[path], two[path])}")
    return lines


@dataclass(frozen=True, kw_only=True)
class _Entry:
    kind: bytes
    mode: int
    owner: tuple[int, int]
    time: float
    link: str
    bytes: int
    content: str


def _told(one: _Entry, two: _Entry) -> str:
    names = [n for n in _Entry.__dataclass_fields__ if getattr(one, n) != getattr(two, n)]
    return ", ".join(f"{n} {getattr(one, n)!r} and {getattr(two, n)!r}" for n in names)


class _Archive:
    """What `docker save` writes of one image, in a file; read layer by layer."""

    def __init__(self, client: "DockerClient", reference: str, path: Path) -> None:
        raw = client.api.inspect_image(reference)
        self.diff_ids: list[str] = raw["RootFS"]["Layers"]
        self._path = path
        with path.open("wb") as file:
            file.writelines(client.api.get_image(reference))

    def entries(self, layer: int) -> dict[str, _Entry]:
        """Return every entry of a layer, by path, hashed as it streams: nothing is unpacked."""
        with tarfile.open(self._path) as archive:
            manifest = archive.extractfile("manifest.json")
            names = json.loads(manifest.read() if manifest else b"")[0]["Layers"]
            blob = archive.extractfile(names[layer])
            with tarfile.open(fileobj=_unpack(blob), mode="r|") as tar:
                return {member.name: _entry(tar, member) for member in tar}


def _unpack(blob: IO[bytes] | None) -> IO[bytes]:
    """Return the plain tar in *blob*, which may be compressed with gzip or zstd."""
    import gzip

    import zstandard

    if blob is None:
        return io.BytesIO()
    magic = blob.read(4)
    blob.seek(0)
    if magic == ZSTD:
        return typing.cast("IO[bytes]", zstandard.ZstdDecompressor().stream_reader(blob))
    return typing.cast("IO[bytes]", gzip.open(blob)) if magic[:2] == GZIP else blob


def _entry(tar: tarfile.TarFile, member: tarfile.TarInfo) -> _Entry:
    digest = hashlib.sha256()
    file = tar.extractfile(member) if member.isreg() else None
    while file and (chunk := file.read(1 << 20)):
        digest.update(chunk)
    return _Entry(
        kind=member.type,
        mode=member.mode,
        owner=(member.uid, member.gid),
        time=member.mtime,
        link=member.linkname,
        bytes=member.size,
        content=digest.hexdigest(),
    )
