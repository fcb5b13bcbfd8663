"""The contents of two images, layer by layer, and where they differ."""

import contextlib
import hashlib
import io
import json
import re
import tarfile
import tempfile
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from docker import DockerClient

ZSTD, GZIP = b"\x28\xb5\x2f\xfd", b"\x1f\x8b"
DPKG_STATUS = "var/lib/dpkg/status"
PACKAGE = re.compile(r"^Package: (\S+)\n(?:.+\n)*?Version: (\S+)$", re.MULTILINE)


def moved_packages(client: "DockerClient", first: str, second: str) -> list[str]:
    """Return the Debian packages whose versions differ between the two images."""
    with _opened(client, first, second) as (one, two):
        return compare_packages(one.packages(), two.packages())


def compare_packages(one: Mapping[str, str], two: Mapping[str, str]) -> list[str]:
    """Return a line for each package whose versions differ; ``none`` if it is absent."""
    pairs = {name: (one.get(name, "none"), two.get(name, "none")) for name in {*one, *two}}
    return [f"{name} {a} and {b}" for name, (a, b) in sorted(pairs.items()) if a != b]


@contextlib.contextmanager
def _opened(
    client: "DockerClient", first: str, second: str
) -> Iterator[tuple["Archive", "Archive"]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        yield Archive(client, first, path / "first"), Archive(client, second, path / "second")


def differing_files(client: "DockerClient", first: str, second: str) -> list[str]:
    """
    Return the differing entries of the first layer that differs, each with the difference.

    Layers are compared in order, because a later layer may hide the difference.
    """
    with _opened(client, first, second) as (one, two):
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
            lines.append(f"/{path}: {_difference(one[path], two[path])}")
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


def _difference(one: _Entry, two: _Entry) -> str:
    names = [n for n in _Entry.__dataclass_fields__ if getattr(one, n) != getattr(two, n)]
    return ", ".join(f"{n} {getattr(one, n)!r} and {getattr(two, n)!r}" for n in names)


class Archive:
    """The output of `docker save` for one image, in a file, read layer by layer."""

    def __init__(self, client: "DockerClient", reference: str, path: Path) -> None:
        raw = client.api.inspect_image(reference)
        self.diff_ids: list[str] = raw["RootFS"]["Layers"]
        self._path = path
        with path.open("wb") as file:
            file.writelines(client.api.get_image(reference))

    @contextlib.contextmanager
    def _layer(self, number: int) -> Iterator[tarfile.TarFile]:
        """Open a layer as a stream that can be read once."""
        with tarfile.open(self._path) as archive:
            manifest = archive.extractfile("manifest.json")
            names = json.loads(manifest.read() if manifest else b"")[0]["Layers"]
            blob = archive.extractfile(names[number])
            with tarfile.open(fileobj=_unpack(blob), mode="r|") as tar:
                yield tar

    def entries(self, layer: int) -> dict[str, _Entry]:
        """Return every entry of a layer by path, hashed as a stream without unpacking."""
        with self._layer(layer) as tar:
            return {member.name: _entry(tar, member) for member in tar}

    def packages(self) -> dict[str, str]:
        """Return the Debian packages and their versions, from the first layer."""
        with self._layer(0) as tar:
            for member in tar:
                if member.name == DPKG_STATUS and (file := tar.extractfile(member)):
                    return dict(PACKAGE.findall(file.read().decode()))
        return {}


def _unpack(blob: IO[bytes] | None) -> IO[bytes]:
    """Return *blob* as an uncompressed tar; it may be compressed with gzip or zstd."""
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
