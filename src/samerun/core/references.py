"""Names of images, as the grammar of distribution/reference has them."""

import re

_DIGEST = r"[0-9a-f]{64}"
_BY_DIGEST = re.compile(rf"(?P<name>[^@\s]+)@sha256:(?P<digest>{_DIGEST})")
_ENDS_IN_DIGEST = re.compile(rf"(?:^|@|:)(?:sha256:)?(?P<digest>{_DIGEST})$")
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"[A-Za-z0-9.-]+(?::\d+)?(?:/{_COMPONENT})+")


def by_digest(reference: str) -> tuple[str, str] | None:
    """Return name and digest, 64 hexadecimal digits, of ``NAME@sha256:…``; None of all others."""
    found = _BY_DIGEST.fullmatch(reference)
    return (found["name"], found["digest"]) if found else None


def digest_of(reference: str) -> str:
    """Return the 64 digits that *reference*, or an image's ID, ends in; empty without any."""
    found = _ENDS_IN_DIGEST.search(reference)
    return found["digest"] if found else ""


def has_host(reference: str) -> bool:
    """Whether *reference* names its registry, as Docker reads it: a dot, a port or localhost."""
    head, slash, _ = reference.partition("/")
    return bool(slash) and ("." in head or ":" in head or head == "localhost")


def is_repository(text: str) -> bool:
    """Whether *text* is ``HOST[:PORT]/NAME``: with a host, without tag and digest."""
    return bool(_REPOSITORY.fullmatch(text)) and has_host(text)
