"""
Whether the engine runs on this machine, and its containers have this machine's files and users.

What is checked and hashed here, and what a container gets, is the same only then. An engine on
another machine mounts its own files, or empty folders, without an error.
"""

import os
import socket
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from samerun.core.errors import EngineElsewhere

if TYPE_CHECKING:
    from docker import DockerClient


def check(client: "DockerClient") -> None:
    """
    Check the engine of *client*; it must come before anything is hashed, built or started.

    Raises:
        EngineElsewhere: Containers would see other files than this command, or as other users.
    """
    info = client.info()
    _check_place(info, client.api.base_url)
    _check_users(info.get("SecurityOptions") or ())


def _check_place(info: dict[str, Any], address: str) -> None:
    here = os.uname()
    theirs = (info.get("Name"), info.get("KernelVersion"))
    if not _is_here(address):
        what = f"The Docker Engine at {address} is on another machine"
    elif theirs != (here.nodename, here.release):
        what = (
            f"The Docker Engine is on another machine or in a virtual one: {theirs[0]}, kernel "
            f"{theirs[1]}; this is {here.nodename}, kernel {here.release}"
        )
    else:
        return
    raise EngineElsewhere(
        f"{what}, so its containers don't see this machine's files.",
        "Run samerun on that machine, or unset DOCKER_HOST (and `docker context use default`).",
    )


def _is_here(address: str) -> bool:
    """Whether *address* is one of this machine's: only to these can a socket be bound."""
    parts = urlsplit(address)
    if parts.scheme in ("unix", "http+unix", "http+docker", "") and parts.hostname != "ssh":
        return True
    try:
        found = socket.getaddrinfo(parts.hostname, 0, type=socket.SOCK_STREAM)
    except OSError:
        return False
    return any(_can_bind(family, place) for family, *_, place in found)


def _can_bind(family: int, place: Any) -> bool:
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind(place)
    except OSError:
        return False
    return True


def _check_users(options: Any) -> None:
    """Check the engine's *options* of security."""
    names = {part for option in options for part in option.split(",") if part.startswith("name=")}
    for name, what, remedy in (
        (
            "name=rootless",
            "The Docker Engine is rootless: in its containers, this user's files belong to root.",
            "Use an engine that runs as root: `invoke setup`, then unset DOCKER_HOST.",
        ),
        (
            "name=userns",
            "The Docker Engine remaps users: its containers can't write to this user's folders.",
            'Remove "userns-remap" from /etc/docker/daemon.json, then restart Docker.',
        ),
        (
            "name=selinux",
            "The Docker Engine labels containers for SELinux: they can't read this user's folders.",
            'Remove "selinux-enabled" from /etc/docker/daemon.json, then restart Docker.',
        ),
    ):
        if name in names:
            raise EngineElsewhere(what, remedy)
