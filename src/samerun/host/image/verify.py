"""`invoke verify`: rebuild the image from scratch and compare."""

import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from samerun.core.errors import NotReproduced
from samerun.core.record import Base, Image
from samerun.host.checkout.project import INPUTS, Project
from samerun.host.image import base, build, buildkit, identity, layers
from samerun.host.machine import engine

if TYPE_CHECKING:
    from docker import DockerClient

CACHE_MOUNT = "type=cache,"
CACHE_ID = "samerun-verify"
DIFFERENCES_SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class Verification:
    """
    The two images; equal when `verify` returns.

    *moved* names the Debian packages that the mirror now serves in another version. The
    base can't be rebuilt then, and the image was rebuilt on the local base.
    """

    built: Image
    rebuilt: Image
    moved: tuple[str, ...] = ()


def verify(
    client: "DockerClient", project: Project, cuda: str, say: Callable[[str], None]
) -> Verification:
    """
    Rebuild base and image in another folder, with different file times and no cache.

    Raises:
        NotReproduced: The images differ; the message lists the first files.
    """
    built = build.ensure(client, project, cuda=cuda, say=say)
    base_tag, under = base.provide(client, project, say=say)
    with tempfile.TemporaryDirectory() as folder:
        copy = copy_inputs(project, Path(folder))
        moved = _rebuild_base(client, copy, base_tag, under, say)
        plan = build.plan(project, base_tag, under, cuda, no_cache=True)
        verify_tag = f"{project.tag(cuda)}-verify"
        plan = replace(plan, context=folder, tag=verify_tag, unpack=False)
        _drop_cache()
        say("Rebuilding the image without a cache …")
        buildkit.run(client, plan, project.state / "verify.log", say)
        build.remember(client, project, plan)
        _drop_cache()
    rebuilt = identity.identify(client, verify_tag)
    _compare(client, built, rebuilt)
    client.api.remove_image(verify_tag)
    return Verification(built=built, rebuilt=rebuilt, moved=moved)


def copy_inputs(project: Project, folder: Path) -> Project:
    """
    Copy all inputs of a build to *folder*, with the current time as file times.

    The copy uses a separate, empty download cache. Cache mounts are not part of an image's
    history, so the digest does not change.
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
) -> tuple[str, ...]:
    """
    Bootstrap the base again and compare; return the packages with a newer version.

    Raises:
        NotReproduced: The same packages gave a different base.
    """
    if under.origin != "bootstrapped":
        return ()
    again = f"{base.REPOSITORY}:verify"
    say("Bootstrapping the base again …")
    base.bootstrap(client, copy, copy.base_pins()["bootstrap"], again)
    try:
        first, second = (client.api.inspect_image(name) for name in (base_tag, again))
        if first["RootFS"]["Layers"] == second["RootFS"]["Layers"]:
            return ()
        moved = layers.moved_packages(client, base_tag, again)
        lines = [] if moved else layers.differing_files(client, base_tag, again)
    finally:
        client.api.remove_image(again)
    if not moved:
        raise NotReproduced(
            f"The same packages gave a different base. First differences:\n{_shown(lines)}",
            "Please report this as a bug: the base must not depend on the machine.",
        )
    return tuple(moved)


def _drop_cache() -> None:
    """Empty the download cache of earlier `verify` commands."""
    if engine.buildx_version() is None:
        return
    filters = ["--filter", "type=exec.cachemount", "--filter", f"description~=.*{CACHE_ID}.*"]
    command = ["docker", "buildx", "prune", "--force", *filters]
    subprocess.run(command, capture_output=True, check=False)


def _compare(client: "DockerClient", built: Image, rebuilt: Image) -> None:
    if (built.layers_digest, built.digest) == (rebuilt.layers_digest, rebuilt.digest):
        return
    lines = layers.differing_files(client, built.reference, rebuilt.reference)
    if not lines:
        lines = ["no file differs, only the configuration or the compression"]
    raise NotReproduced(
        f"The image is {built.digest}, the rebuilt image is {rebuilt.digest}. "
        f"First differences:\n{_shown(lines)}",
        f"Inspect the rebuilt image: `invoke inspect {rebuilt.reference}`.",
    )


def _shown(lines: list[str]) -> str:
    return "\n".join(f"  {line}" for line in lines[:DIFFERENCES_SHOWN])
