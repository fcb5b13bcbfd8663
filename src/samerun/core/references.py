"""Image references, by the grammar of distribution/reference."""

import re

_DIGEST = r"[0-9a-f]{64}"
_BY_DIGEST = re.compile(rf"(?P<name>[^@\s]+)@sha256:(?P<digest>{_DIGEST})")
_ENDS_IN_DIGEST = re.compile(rf"(?:^|@|:)(?:sha256:)?(?P<digest>{_DIGEST})$")
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"[A-Za-z0-9.-]+(?::\d+)?(?:/{_COMPONENT})+")


def by_digest(reference: str) -> tuple[str, str] | None:
    """Return name and digest, 64 hexadecimal digits, of ``NAME@sha256:…``; None for others."""
    match = _BY_DIGEST.fullmatch(reference)
    return (match["name"], match["digest"]) if match else None


def digest_of(reference: str) -> str:
    """Return the 64 digits at the end of *reference* or an image's ID; empty if none."""
    match = _ENDS_IN_DIGEST.search(reference)
    return match["digest"] if match else ""


def has_host(reference: str) -> bool:
    """Whether *reference* names a registry by Docker's rule: a dot, a port or localhost."""
    head, slash, _ = reference.partition("/")
    return bool(slash) and ("." in head or ":" in head or head == "localhost")


def is_repository(text: str) -> bool:
    """Whether *text* is ``HOST[:PORT]/NAME``: with a host, without tag and digest."""
    return bool(_REPOSITORY.fullmatch(text)) and has_host(text)
