"""The base image: pulled by digest, or bootstrapped from Debian packages."""

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samerun.core import contract
from samerun.core.errors import BaseUnavailable
from samerun.core.record import Base
from samerun.host.checkout.project import Project
from samerun.host.image import buildkit
from samerun.host.image.buildkit import Build

if TYPE_CHECKING:
    from docker import DockerClient

REPOSITORY = "samerun-base"
PASSED_ON = (
    *("PATH", "HOME", "TMPDIR", "APT_CONFIG"),
    *("http_proxy", "https_proxy", "ftp_proxy", "no_proxy"),
)
BOOTSTRAPPED_BY = ("bootstrap-base.sh", "base.Dockerfile")


def provide(
    client: "DockerClient",
    project: Project,
    choice: str = "auto",
    *,
    say: Callable[[str], None],
) -> tuple[str, Base]:
    """
    Return the local tag to build from, and its description.

    With ``auto``: the local base, else a pulled one, else a bootstrapped one. An explicit
    choice is never replaced by another.

    Raises:
        BaseUnavailable: The chosen base, or with ``auto`` any base, is not available.
    """
    pins, tags = project.base_pins(), _tags(project)
    for origin, tag in tags.items():
        if choice in ("auto", origin) and has(client, tag):
            return _describe(client, origin, tag, pins)
    problem = ""
    if choice in ("auto", "pulled"):
        problem = _pull(client, tags["pulled"], pins)
        if not problem:
            return _describe(client, "pulled", tags["pulled"], pins)
    if choice == "pulled":
        raise BaseUnavailable(problem, "Check the network, or build with --base bootstrapped.")
    if problem:
        say(f"{problem}\nBootstrapping the base from Debian packages instead.")
    bootstrap(client, project, pins["bootstrap"], tags["bootstrapped"])
    return _describe(client, "bootstrapped", tags["bootstrapped"], pins)


def is_reachable(client: "DockerClient", project: Project) -> bool:
    """Whether a base is on this machine, or the registry serves the pinned one."""
    from docker.errors import DockerException

    if any(has(client, tag) for tag in _tags(project).values()):
        return True
    try:
        client.api.inspect_distribution(project.base_pins()["pulled"]["reference"])
    except DockerException:
        return False
    return True


def _tags(project: Project) -> dict[str, str]:
    """Return the local tag of each origin; it holds a hash of all inputs of that base."""
    pins = project.base_pins()
    scripts = [project.file_sha256(f"docker/{name}") for name in BOOTSTRAPPED_BY]
    inputs = {"pulled": pins["pulled"], "bootstrapped": [pins["bootstrap"], *scripts]}
    return {
        origin: f"{REPOSITORY}:{origin}-{_short_hash(value)}" for origin, value in inputs.items()
    }


def _short_hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def has(client: "DockerClient", tag: str) -> bool:
    """Whether the image *tag* is on this machine."""
    from docker.errors import ImageNotFound

    try:
        client.api.inspect_image(tag)
    except ImageNotFound:
        return False
    return True


def _describe(
    client: "DockerClient", origin: str, tag: str, pins: dict[str, Any]
) -> tuple[str, Base]:
    if origin == "pulled":
        return tag, Base(reference=pins["pulled"]["reference"], origin="pulled")
    identity = client.api.inspect_image(tag)["Id"]
    return tag, Base(reference=f"{REPOSITORY}@{identity}", origin="bootstrapped")


def _pull(client: "DockerClient", local: str, pins: dict[str, Any]) -> str:
    """Pull the pinned base and tag it *local*; return the problem, or an empty string."""
    from docker.errors import DockerException

    reference = pins["pulled"]["reference"]
    name, digest = reference.split("@")
    try:
        client.api.pull(name.rsplit(":", 1)[0], tag=digest)
        repository, tag = local.split(":")
        client.images.get(reference).tag(repository, tag)
    except DockerException as error:
        # The engine nests its message four levels deep; the innermost part is the reason.
        reason = str(error).rstrip('").').rsplit(": ", 1)[-1]
        return f"The base image {reference} can't be pulled: {reason}."
    return ""


def bootstrap(client: "DockerClient", project: Project, pin: dict[str, Any], tag: str) -> None:
    """Create a Debian file system with mmdebstrap, and build the image *tag* from it."""
    if shutil.which("mmdebstrap") is None or os.geteuid() != 0:
        raise BaseUnavailable(
            "Bootstrapping the base requires root and the package mmdebstrap.",
            "Run `invoke setup build` as root, or build on a machine that reaches a registry.",
        )
    docker = project.root / "docker"
    with tempfile.TemporaryDirectory() as folder:
        tar = Path(folder) / "base.tar"
        script = ["sh", str(docker / "bootstrap-base.sh"), pin["suite"], ",".join(pin["packages"])]
        _bootstrap_tar(script, tar)
        build = Build(context=folder, tag=tag, file=str(docker / "base.Dockerfile"))
        buildkit.run(client, build, project.state / "base-build.log", lambda _: None)


def _bootstrap_tar(script: list[str], tar: Path) -> None:
    # No other variables: package scripts run in this environment and might write its values.
    inherited = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    environment = {**inherited, "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "0"}
    environment["SOURCE_DATE_EPOCH"] = str(contract.EPOCH)
    command = [*script, str(tar)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = "\n".join(done.stderr.strip().splitlines()[-10:])
        raise BaseUnavailable(
            f"Bootstrapping the base failed with exit code {done.returncode}:\n{lines}",
            "Check that the Debian mirror is reachable (`apt-get update`).",
        )
