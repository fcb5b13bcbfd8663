"""
Pushing and pulling images, always by digest, which is read back from the registry.

The engine talks to the registry, with its own logins, certificates and mirrors.
"""

import dataclasses
import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from samerun.core import references
from samerun.core.errors import ImageNotFound, TransferFailed, UsageError
from samerun.core.record import Image
from samerun.host.image import identity

if TYPE_CHECKING:
    from docker import DockerClient

ATTEMPTS = 4
PAUSE_S = 2.0
ASK_TIMEOUT_S = 15
# Errors for which a retry may help: the engine keeps the layers already transferred.
PASSING = re.compile(
    r"\bEOF\b|connection reset|closed network connection|broken pipe|timeout|timed out|"
    r"TLS handshake|toomanyrequests|status[^0-9]{0,20}(50[0234]|429)\b|"
    r"\b(500 Internal|502 Bad|503 Service|504 Gateway|429 Too Many)",
    re.IGNORECASE,
)
# Digests are removed from messages, because their digits may look like a status.
HASH = re.compile(r"[0-9a-f]{12,}")
DENIED = re.compile(r"denied|unauthorized|no basic auth|authentication required", re.IGNORECASE)
ABSENT = re.compile(r"not found|manifest unknown|name unknown", re.IGNORECASE)


def split(reference: str) -> tuple[str, str]:
    """
    Return name and digest of ``NAME@sha256:…``.

    Raises:
        UsageError: It is a tag, which may point to another image later, or not a reference.
    """
    parts = references.by_digest(reference)
    if parts is None:
        short = "has an incomplete digest (sha256: and 64 digits are required)"
        tag = "has no digest, and a tag may point to another image later"
        raise UsageError(
            f"{reference!r} {short if '@' in reference else tag}.",
            "Give NAME@sha256:… (`invoke push` prints it, and a run's record holds it).",
        )
    return parts[0], f"sha256:{parts[1]}"


def push(
    client: "DockerClient", image: Image, repository: str, say: Callable[[str], None]
) -> Image:
    """
    Push *image* to *repository* (``host[:port]/name``), and read its digest back.

    Raises:
        TransferFailed: The registry refused the image, or serves a different digest.
    """
    tag = image.digest[:12]
    identity.give_name(client, image.reference, f"{repository}:{tag}")
    try:
        return _push(client, image, repository, tag, say)
    except TransferFailed:
        client.api.remove_image(f"{repository}:{tag}", noprune=True)
        raise


def _push(
    client: "DockerClient", image: Image, repository: str, tag: str, say: Callable[[str], None]
) -> Image:

    def attempt() -> None:
        for line in client.api.push(repository, tag=tag, stream=True, decode=True):
            _raise(line)

    say(f"Pushing {repository}:{tag} …")
    _retry(attempt, f"push {repository}", say)
    digest = _digest(client, f"{repository}:{tag}")
    if digest is None:
        raise TransferFailed(
            f"{repository} does not serve {tag} although it accepted the push.",
            "Check the registry's log, and push again.",
        )
    reference = f"{repository}@{digest}"
    # The classic store recompresses on push: the registry's digest is the image's from now on.
    if image.store == "containerd" and image.manifest_digest != digest:
        raise TransferFailed(
            f"The registry serves {digest}, the local image is {image.manifest_digest}.",
            "Check whether a proxy between this machine and the registry rewrites images.",
        )
    raw = client.api.inspect_image(f"{repository}:{tag}")
    identity.remember(raw["Id"], {"pull_reference": reference, "manifest_digest": digest})
    return dataclasses.replace(identity.identify(client, reference), pushed=True)


def pull(client: "DockerClient", reference: str, say: Callable[[str], None]) -> Image:
    """
    Pull *reference*, ``NAME@sha256:…``, and check the digest of the result.

    Raises:
        UsageError: The reference has no digest.
        ImageNotFound: The registry does not have this digest.
        TransferFailed: The image could not be pulled completely.
    """
    name, digest = split(reference)

    def attempt() -> None:
        for line in client.api.pull(name, tag=digest, stream=True, decode=True):
            _raise(line)

    say(f"Pulling {reference} …")
    _retry(attempt, f"pull {reference}", say)
    raw = client.api.inspect_image(reference)
    identity.remember(raw["Id"], {"pull_reference": reference, "manifest_digest": digest})
    image = identity.identify(client, reference)
    if digest not in (image.manifest_digest, image.index_digest, image.config_digest):
        raise TransferFailed(
            f"The engine returned {image.reference} for {reference}.",
            "Please report this as a bug.",
        )
    return dataclasses.replace(image, pushed=True)


def obtain(client: "DockerClient", reference: str, say: Callable[[str], None]) -> Image:
    """
    Return exactly the image *reference*: local, else pulled if it has a digest.

    Raises:
        ImageNotFound: It is not local, and it is a tag or an ID or not in the registry.
        TransferFailed: The registry could not be reached.
    """
    try:
        return identity.identify(client, reference)
    except ImageNotFound:
        # Docker would look up a name without a host on Docker Hub, which does not have it.
        if not references.by_digest(reference) or not references.has_host(reference):
            raise
    return pull(client, reference, say)


def confirm(image: Image) -> Image:
    """
    Return *image* with `pushed` as its registry reports it.

    A registry is known only for an image that was pushed or pulled here. If it does not
    respond within seconds, `pushed` stays unknown.
    """
    if image.pull_reference is None:
        return image
    import docker

    client = docker.from_env(timeout=ASK_TIMEOUT_S)
    return dataclasses.replace(image, pushed=ask(client, image.pull_reference))


def ask(client: "DockerClient", reference: str) -> bool | None:
    """Ask the registry whether it serves *reference*; None if it does not respond."""
    from docker.errors import APIError, DockerException
    from requests.exceptions import RequestException

    try:
        return _digest(client, reference) == split(reference)[1]
    except APIError as error:
        return False if ABSENT.search(str(error)) else None
    except (DockerException, RequestException):
        return None


def _digest(client: "DockerClient", reference: str) -> str | None:
    """Return the registry's digest of *reference*, queried through the engine's API."""
    digest = client.api.inspect_distribution(reference)["Descriptor"].get("digest")
    return str(digest) if digest else None


def _raise(line: dict[str, Any]) -> None:
    if "error" in line:
        raise _EngineError(str(line["error"]))


class _EngineError(Exception):
    """An error in the engine's progress stream."""


def _retry(attempt: Callable[[], None], what: str, say: Callable[[str], None]) -> None:
    """Retry until it succeeds, fails permanently, or has failed `ATTEMPTS` times."""
    for number in range(1, ATTEMPTS + 1):
        problem = _problem(attempt)
        if problem is None:
            return
        if number == ATTEMPTS or not is_passing(problem):
            raise _explain(problem, what)
        pause = PAUSE_S * 2 ** (number - 1)
        say(f"The connection broke ({_short(problem)}); retrying in {pause:.0f} s.")
        time.sleep(pause)


def is_passing(problem: str) -> bool:
    """Whether a retry may help: the connection broke or the registry is overloaded."""
    text = HASH.sub("", problem)
    return not DENIED.search(text) and not ABSENT.search(text) and bool(PASSING.search(text))


def _problem(attempt: Callable[[], None]) -> str | None:
    from docker.errors import DockerException
    from requests.exceptions import RequestException

    try:
        attempt()
    except (_EngineError, DockerException, RequestException) as error:
        return str(error)
    return None


def _explain(problem: str, what: str) -> ImageNotFound | TransferFailed:
    verb, reference = what.split(" ", 1)
    host = reference.split("/")[0]
    if DENIED.search(problem):
        remedy = f"Log in with `docker login {host}`, and check the name and your permissions."
        return TransferFailed(f"The registry denied the {verb} ({_short(problem)}).", remedy)
    if ABSENT.search(problem):
        remedy = f"Push it with `invoke push --registry {reference.split('@')[0]}`."
        return ImageNotFound(f"{reference} is not in its registry ({_short(problem)}).", remedy)
    remedy = (
        "Check the registry's address and the network, then run the command again; "
        "transferred layers are kept."
    )
    if "HTTP response to HTTPS" in problem:
        remedy = f'Add "{host}" to "insecure-registries" in /etc/docker/daemon.json.'
    return TransferFailed(f"Could not {what}: {_short(problem)}.", remedy)


def _short(problem: str) -> str:
    """Return the innermost part of the engine's nested message."""
    return " ".join(problem.split())[-200:].rstrip('.")')
