"""
A project's packages as a layer between the image and the code.

uv installs them on the host, with the host's indexes, logins, proxies and certificates, so that no
build needs them. The same lock gives the same layer on every machine.
"""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from samerun.core import contract
from samerun.core.record import Image
from samerun.host.checkout.project import Project
from samerun.host.checkout.wanted_packages import Packages
from samerun.host.image import derived, identity, package_lock

if TYPE_CHECKING:
    from docker import DockerClient

REPOSITORY = "samerun-packages"
_INSTALLER, _DESCRIBER = "add-packages.py", "describe.py"
_DOCKERFILE = f"""ARG PARENT
FROM $PARENT
USER 0:0
RUN --mount=type=bind,source=.,target=/run/packages --mount=type=tmpfs,target=/tmp \\
    /opt/venv/bin/python -I /run/packages/{_INSTALLER} /run/packages/site {contract.EPOCH}
USER 1000:1000
"""


def derive(
    client: "DockerClient",
    project: Project,
    folder: Path,
    packages: Packages,
    parent: Image,
    say: Callable[[str], None],
) -> Image:
    """
    Return the image with *packages* added; *parent* itself if it has them all.

    *folder* is that of the user's project, where the lock is.

    Raises:
        PackageError: They can't be locked or fetched.
        BuildFailed: The build failed; its log is kept.
    """
    if not packages.wanted:
        return parent
    # Trainings that start at the same time share what is locked and built.
    with project.alone("packages"):
        return _derive(client, project, folder, packages, parent, say)


def _derive(
    client: "DockerClient",
    project: Project,
    folder: Path,
    packages: Packages,
    parent: Image,
    say: Callable[[str], None],
) -> Image:
    facts = identity.facts(client, identity.look_up(client, parent.reference))
    under = package_lock.under(facts, parent.reference)
    locked = package_lock.lock(folder, packages, under, project.state, say)
    if locked is None or not locked.pins:
        return parent
    key = _key(project, parent, locked)
    tag = f"{REPOSITORY}:{key[:16]}"
    if client.images.list(name=tag):
        return identity.identify(client, tag)
    say(
        f"Adding {', '.join(f'{name} {version}' for name, version in sorted(locked.pins.items()))}."
    )
    context = project.state / "packages"
    shutil.rmtree(context, ignore_errors=True)  # What a kill has left.
    try:
        package_lock.install(folder, locked, under, context / "site", packages.indexes)
        for path in _sources(project):
            shutil.copy(path, context / path.name)
        (context / "Dockerfile").write_text(_DOCKERFILE, encoding="utf-8")
        log = project.state / "packages-build.log"
        return derived.build(client, parent, tag, key, log, say, folder=context)
    finally:
        shutil.rmtree(context, ignore_errors=True)


def _sources(project: Project) -> list[Path]:
    return [project.root / "docker" / name for name in (_INSTALLER, _DESCRIBER)]


def _key(project: Project, parent: Image, locked: package_lock.Lock) -> str:
    """Return the hash of all that the layer is made of."""
    sources = [path.read_bytes() for path in _sources(project)]
    inputs = (parent.digest.encode(), locked.text.encode(), _DOCKERFILE.encode(), *sources)
    return hashlib.sha256(b"\0".join(inputs)).hexdigest()
