"""
Images to and from a registry, always by digest; what a registry says is asked, not guessed.

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
# What the engine says where trying again may help: layers that are through are kept.
PASSING = re.compile(
    r"\bEOF\b|connection reset|closed network connection|broken pipe|timeout|timed out|"
    r"TLS handshake|toomanyrequests|status[^0-9]{0,20}(50[0234]|429)\b|"
    r"\b(500 Internal|502 Bad|503 Service|504 Gateway|429 Too Many)",
    re.IGNORECASE,
)
# Digests are long and random: no number in one means anything.
HASH = re.compile(r"[0-9a-f]{12,}")
DENIED = re.compile(r"denied|unauthorized|no basic auth|authentication required", re.IGNORECASE)
ABSENT = re.compile(r"not found|manifest unknown|name unknown", re.IGNORECASE)


def split(reference: str) -> tuple[str, str]:
    """
    Return name and digest of ``NAME@sha256:…``.

    Raises:
        UsageError: It is a tag, which may be another image tomorrow, or no reference.
    """
    found = references.by_digest(reference)
    if found is None:
        short = "names no whole digest (sha256: and 64 digits)"
        tag = "names no digest: a tag may be another image tomorrow"
        raise UsageError(
            f"{reference!r} {short if '@' in reference else tag}.",
            "Give NAME@sha256:… (`invoke push` prints it, and a run's record holds it).",
        )
    return found[0], f"sha256:{found[1]}"


def push(
    client: "DockerClient", image: Image, repository: str, say: Callable[[str], None]
) -> Image:
    """
    Push *image* to *repository* (``host[:port]/name``), and read its digest back.

    Raises:
        TransferFailed: The registry refused, or holds another digest than it confirmed.
    """
    tag = image.digest[:12]
    client.api.tag(image.reference, repository, tag)
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
    _again(attempt, f"push {repository}", say)
    digest = _digest(client, f"{repository}:{tag}")
    if digest is None:
        raise TransferFailed(
            f"{repository} does not serve {tag}, which it has just taken.",
            "Push again; look at the registry's own log.",
        )
    reference = f"{repository}@{digest}"
    # The classic store compresses anew at a push: its digest is the registry's from now on.
    if image.store == "containerd" and image.manifest_digest != digest:
        raise TransferFailed(
            f"The registry holds {digest}, the image here is {image.manifest_digest}.",
            "Something between here and there rewrites images (a proxy?).",
        )
    raw = client.api.inspect_image(f"{repository}:{tag}")
    identity.remember(raw["Id"], {"pull_reference": reference, "manifest_digest": digest})
    return dataclasses.replace(identity.identify(client, reference), pushed=True)


def pull(client: "DockerClient", reference: str, say: Callable[[str], None]) -> Image:
    """
    Pull *reference*, ``NAME@sha256:…``, and check that this is what came.

    Raises:
        UsageError: The reference names no digest.
        ImageNotFound: The registry has no such digest.
        TransferFailed: It could not be had whole.
    """
    name, digest = split(reference)

    def attempt() -> None:
        for line in client.api.pull(name, tag=digest, stream=True, decode=True):
            _raise(line)

    say(f"Pulling {reference} …")
    _again(attempt, f"pull {reference}", say)
    raw = client.api.inspect_image(reference)
    identity.remember(raw["Id"], {"pull_reference": reference, "manifest_digest": digest})
    image = identity.identify(client, reference)
    if digest not in (image.manifest_digest, image.index_digest, image.config_digest):
        raise TransferFailed(
            f"The engine gave {image.reference} for {reference}.", "Report this: it is a defect."
        )
    return dataclasses.replace(image, pushed=True)


def obtain(client: "DockerClient", reference: str, say: Callable[[str], None]) -> Image:
    """
    Return exactly the image *reference*: the local one, else pulled if it names a digest.

    Raises:
        ImageNotFound: It is not here, and is a tag or an ID, or the registry lacks it.
        TransferFailed: The registry could not be reached.
    """
    try:
        return identity.identify(client, reference)
    except ImageNotFound:
        # A name without a host would be looked for at a public registry that never saw it.
        if not references.by_digest(reference) or not references.has_host(reference):
            raise
    return pull(client, reference, say)


def confirm(image: Image) -> Image:
    """
    Return *image* with `pushed` and `pull_reference` as its registry says.

    Only where it was pushed or pulled from here is there a registry to ask; one that
    does not answer within seconds leaves `pushed` unknown.
    """
    if image.pull_reference is None:
        return image
    import docker

    client = docker.from_env(timeout=ASK_TIMEOUT_S)
    return dataclasses.replace(image, pushed=ask(client, image.pull_reference))


def ask(client: "DockerClient", reference: str) -> bool | None:
    """Ask the registry whether it serves *reference*; None if it doesn't answer."""
    from docker.errors import APIError, DockerException
    from requests.exceptions import RequestException

    try:
        return _digest(client, reference) == split(reference)[1]
    except APIError as error:
        return False if ABSENT.search(str(error)) else None
    except (DockerException, RequestException):
        return None


def _digest(client: "DockerClient", reference: str) -> str | None:
    """Return the digest that the registry has for *reference*; the engine asks, by its API."""
    digest = client.api.inspect_distribution(reference)["Descriptor"].get("digest")
    return str(digest) if digest else None


def _raise(line: dict[str, Any]) -> None:
    if "error" in line:
        raise _EngineSaid(str(line["error"]))


class _EngineSaid(Exception):
    """An error in the engine's stream of progress."""


def _again(attempt: Callable[[], None], what: str, say: Callable[[str], None]) -> None:
    """Try until it succeeds, fails for good, or has failed `ATTEMPTS` times."""
    for tried in range(1, ATTEMPTS + 1):
        problem = _problem(attempt)
        if problem is None:
            return
        if tried == ATTEMPTS or not is_passing(problem):
            raise _explain(problem, what)
        pause = PAUSE_S * 2 ** (tried - 1)
        say(f"The connection broke ({_short(problem)}); trying again in {pause:.0f} s.")
        time.sleep(pause)


def is_passing(problem: str) -> bool:
    """Whether trying again may help: neither denied nor absent, but cut off or overloaded."""
    text = HASH.sub("", problem)
    return not DENIED.search(text) and not ABSENT.search(text) and bool(PASSING.search(text))


def _problem(attempt: Callable[[], None]) -> str | None:
    from docker.errors import DockerException
    from requests.exceptions import RequestException

    try:
        attempt()
    except (_EngineSaid, DockerException, RequestException) as error:
        return str(error)
    return None


def _explain(problem: str, what: str) -> ImageNotFound | TransferFailed:
    verb, reference = what.split(" ", 1)
    host = reference.split("/")[0]
    if DENIED.search(problem):
        remedy = f"Log in with `docker login {host}`, and check the name and your rights to it."
        return TransferFailed(f"The registry denied the {verb} ({_short(problem)}).", remedy)
    if ABSENT.search(problem):
        remedy = f"Push it there with `invoke push --registry {reference.split('@')[0]}`."
        return ImageNotFound(f"{reference} is not in its registry ({_short(problem)}).", remedy)
    remedy = "Check the registry's address and the network, then run it again: layers are kept."
    if "HTTP response to HTTPS" in problem:
        remedy = f'Add "{host}" to "insecure-registries" in /etc/docker/daemon.json.'
    return TransferFailed(f"Could not {what}: {_short(problem)}.", remedy)


def _short(problem: str) -> str:
    """Return the innermost part: the engine's messages nest."""
    return " ".join(problem.split())[-200:].rstrip('.")')
