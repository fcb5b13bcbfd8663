"""`invoke inspect`: an image's identity and contents, read without starting it."""

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
    """A layer; *bytes* is its unpacked size, *diff_id* does not depend on compression."""

    diff_id: str
    bytes: int
    made_by: str


@dataclass(frozen=True, kw_only=True)
class Package:
    """An installed package; *kind* is ``python`` or ``debian``, *bytes* its size on disk."""

    kind: str
    name: str
    version: str
    license: str
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """Everything that `invoke inspect` shows."""

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
    Inspect *reference*: a tag, a digest or an ID of an image on this machine.

    Raises:
        ImageNotFound: The image is not on this machine.
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
    # Images built by samerun before 0.1 use the British spelling.
    older = "licence"  # codespell:ignore
    return Package(**{("license" if key == older else key): value for key, value in raw.items()})


def _layers(raw: dict[str, Any], history: list[dict[str, Any]]) -> Iterator[Layer]:
    """Pair the DiffIDs with the steps that made them, if there are equally many."""
    diff_ids = raw["RootFS"]["Layers"]
    steps = [step for step in reversed(history) if step["Size"]]
    known = steps if len(steps) == len(diff_ids) else [{}] * len(diff_ids)
    for diff_id, step in zip(diff_ids, known, strict=True):
        made_by = _shorten(step.get("CreatedBy", "?"))
        yield Layer(diff_id=diff_id, bytes=step.get("Size", 0), made_by=made_by)


def _shorten(made_by: str) -> str:
    """Return a step without the build arguments and the shell that every step repeats."""
    text = re.sub(r"\|\d+ (?:[A-Z_]+=\S* )*|/bin/sh -c |# buildkit", "", made_by)
    return " ".join(text.split())


def sbom(client: "DockerClient", reference: str) -> str:
    """
    Return the image's software bill of materials (CycloneDX JSON), written by its build.

    Raises:
        ImageNotFound: The image is not on this machine, or samerun did not build it.
    """
    raw = identity.look_up(client, reference)
    content = identity.read_file(client, raw["Id"], contract.IMAGE_SBOM)
    if content is None:
        raise ImageNotFound(
            f"{reference} has no {contract.IMAGE_SBOM}: samerun did not build it.",
            "Create the SBOM with a scanner, for example syft.",
        )
    return content.decode()
