"""Build the image with BuildKit, unless its inputs are unchanged."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from samerun.core import contract
from samerun.core.record import Base, Image
from samerun.host.checkout import git, lock_check
from samerun.host.checkout.project import IMAGE, Project, tag, variant
from samerun.host.image import base, buildkit, identity, pins
from samerun.host.image.buildkit import Build
from samerun.host.machine import engine

if TYPE_CHECKING:
    from docker import DockerClient


CACHE_ENV = "SAMERUN_BUILD_CACHE"
"""Layer cache shared between machines, for CI: ``type=registry,ref=HOST/NAME:cache``."""


def plan(project: Project, base_tag: str, under: Base, cuda: str, *, no_cache: bool) -> Build:
    """Return the build of the image for CUDA release *cuda* on the base *under*."""
    return Build(
        context=str(project.root),
        tag=project.tag(cuda),
        arguments={
            "BASE": base_tag,
            "BASE_REFERENCE": under.reference,
            "BASE_ORIGIN": under.origin,
            "CUDA": variant(cuda),
            "SOURCE_DATE_EPOCH": str(contract.EPOCH),
        },
        labels={
            "org.opencontainers.image.title": "samerun",
            "org.opencontainers.image.base.name": under.reference,
            contract.LABEL_INPUTS: inputs(project, under, cuda),
            contract.LABEL_BASE: under.reference,
            contract.LABEL_BASE_ORIGIN: under.origin,
            contract.LABEL_CUDA: cuda,
            contract.LABEL_LOCK: project.lock_sha256(),
        },
        ca=buildkit.find_ca(),
        # One file per process: concurrent builds must not read each other's metadata.
        metadata=str(project.state / f"build-metadata-{os.getpid()}.json"),
        no_cache=no_cache,
        cache=os.environ.get(CACHE_ENV) or None,
    )


def inputs(project: Project, under: Base, cuda: str) -> str:
    """Return the hash of all inputs of the image."""
    return project.inputs_sha256(under.reference, cuda)


def ensure(
    client: "DockerClient",
    project: Project,
    *,
    cuda: str,
    base_choice: str = "auto",
    no_cache: bool = False,
    say: Callable[[str], None],
) -> Image:
    """
    Return the image of this checkout, built if its inputs have changed.

    Raises:
        LockStale: pyproject.toml and the lock files disagree.
        BuildFailed: The build failed; its log is kept.
    """
    lock_check.check_lock(project, cuda)
    with project.alone("build"):
        return _ensure(client, project, cuda, base_choice, say, no_cache=no_cache)


def _ensure(
    client: "DockerClient",
    project: Project,
    cuda: str,
    base_choice: str,
    say: Callable[[str], None],
    *,
    no_cache: bool,
) -> Image:
    base_tag, under = base.provide(client, project, base_choice, say=say)
    own = project.tag(cuda)
    if not no_cache and _is_current(client, project, under, cuda):
        image = identity.identify(client, own)
        # In the containerd store, only a build reports the config's digest. If it is not
        # cached, the build is repeated, from BuildKit's cache, with the same result.
        if image.config_digest or engine.buildx_version() is None:
            return image
    build = plan(project, base_tag, under, cuda, no_cache=no_cache)
    buildkit.run(client, build, project.state / "build.log", say)
    remember(client, project, build)
    identity.give_name(client, own, tag(cuda))
    pins.note_checkout(own, project.root)
    return identity.identify(client, own)


def _is_current(client: "DockerClient", project: Project, under: Base, cuda: str) -> bool:
    """Whether this checkout has its image; that of another one with the same inputs is taken."""
    wanted, own = inputs(project, under, cuda), project.tag(cuda)
    if _inputs_of(client, own) == wanted:
        return True
    found = identity.find_labeled(client, contract.LABEL_INPUTS, wanted, IMAGE)
    if found is None:
        return False
    identity.give_name(client, found, own)
    pins.note_checkout(own, project.root)
    return True


def _inputs_of(client: "DockerClient", name: str) -> str | None:
    from docker.errors import ImageNotFound

    try:
        raw = client.api.inspect_image(name)
    except ImageNotFound:
        return None
    labels = raw["Config"].get("Labels") or {}
    return labels.get(contract.LABEL_INPUTS)


def remember(client: "DockerClient", project: Project, build: Build) -> None:
    """Cache what can't be read from the image later: its config's digest and its commit."""
    if engine.buildx_version() is None or build.metadata is None:
        return
    path = Path(build.metadata)
    config = json.loads(path.read_text(encoding="utf-8")).get("containerimage.config.digest")
    path.unlink()
    if config:
        raw = client.api.inspect_image(build.tag)
        commit = git.state_of(project.root).commit
        identity.remember(raw["Id"], {"config_digest": config, "commit": commit})
