"""`invoke inspect`: what an image is and holds, read without starting it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from samerun.core import contract
from samerun.core.errors import ImageNotFound
from samerun.core.record import Image
from samerun.host.image import identity

if TYPE_CHECKING:
    from docker import DockerClient


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A layer of the image; *bytes* unpacked, *diff_id* survives recompression."""

    diff_id: str
    bytes: int
    made_by: str


@dataclass(frozen=True, kw_only=True)
class Package:
    """An installed package; *kind* is ``python`` or ``debian``, *bytes* those on disk."""

    kind: str
    name: str
    version: str
    license: str
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """All that `invoke inspect` shows."""

    image: Image
    labels: dict[str, str]
    commit: str | None
    tags: tuple[str, ...]
    user: str
    entrypoint: tuple[str, ...]
    layers: tuple[Layer, ...]
    packages: tuple[Package, ...]


def inspect(client: "DockerClient", reference: str) -> Inspection:
    """
    Look *reference* up: a tag, a digest or an ID of an image on this machine.

    Raises:
        ImageNotFound: It is not here.
    """
    image = identity.identify(client, reference)
    raw = identity.look_up(client, reference)
    facts = identity.facts(client, raw)
    return Inspection(
        image=image,
        labels=dict(raw["Config"].get("Labels") or {}),
        commit=facts.get("commit"),
        tags=tuple(raw.get("RepoTags") or ()),
        user=raw["Config"].get("User", ""),
        entrypoint=tuple(raw["Config"].get("Entrypoint") or ()),
        layers=tuple(_layers(raw, client.api.history(raw["Id"]))),
        packages=tuple(map(_package, facts.get("installed", ()))),
    )


def _package(raw: dict[str, Any]) -> Package:
    # Images of samerun before 0.1 have the British spelling.
    older = "licence"  # codespell:ignore
    return Package(**{("license" if key == older else key): value for key, value in raw.items()})


def _layers(raw: dict[str, Any], history: list[dict[str, Any]]) -> Iterator[Layer]:
    """Pair the DiffIDs with the steps that made them, where their numbers tell which."""
    diff_ids = raw["RootFS"]["Layers"]
    steps = [step for step in reversed(history) if step["Size"]]
    known = steps if len(steps) == len(diff_ids) else [{}] * len(diff_ids)
    for diff_id, step in zip(diff_ids, known, strict=True):
        made_by = _shorten(step.get("CreatedBy", "?"))
        yield Layer(diff_id=diff_id, bytes=step.get("Size", 0), made_by=made_by)


def _shorten(made_by: str) -> str:
    """Return a step without its build arguments and shell, which every step repeats."""
    text = re.sub(r"\|\d+ (?:[A-Z_]+=\S* )*|/bin/sh -c |# buildkit", "", made_by)
    return " ".join(text.split())


def sbom(client: "DockerClient", reference: str) -> str:
    """
    Return the image's software bill of materials, CycloneDX JSON, as its build wrote it.

    Raises:
        ImageNotFound: The image is not here, or was not built by samerun.
    """
    raw = identity.look_up(client, reference)
    content = identity.read_file(client, raw["Id"], contract.IMAGE_SBOM)
    if content is None:
        raise ImageNotFound(
            f"{reference} holds no {contract.IMAGE_SBOM}: samerun did not build it.",
            "List its packages with a scanner of your own.",
        )
    return content.decode()
