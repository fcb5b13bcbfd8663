import pytest

from samerun.core import references
from samerun.core.errors import UsageError
from samerun.core.record import Base, Image
from samerun.host.image import provenance, push, registry

DIGEST = "sha256:" + "a" * 64
IMAGE = Image(
    reference=f"host:5000/x@{DIGEST}",
    digest="a" * 64,
    digest_kind="manifest",
    manifest_digest=DIGEST,
    config_digest="sha256:" + "b" * 64,
    layers_digest="sha256:" + "c" * 64,
    store="containerd",
    platform="linux/amd64",
    base=Base(reference=f"base@sha256:{'d' * 64}", origin="pulled"),
    cuda="13",
    lock="e" * 64,
    pull_reference=f"host:5000/x@{DIGEST}",
)


def test_a_reference_by_digest_is_taken_apart():
    """Ports and paths stay with the name."""
    assert registry.split(f"host:5000/a/b@{DIGEST}") == ("host:5000/a/b", DIGEST)


@pytest.mark.parametrize("reference", ["x", "x:tag", "x@sha256:12", f"x@{DIGEST}0", DIGEST])
def test_what_names_no_digest_is_refused(reference):
    """A tag may be another image tomorrow; a short digest may be two."""
    with pytest.raises(UsageError, match=r"has (no|an incomplete) digest"):
        registry.split(reference)


@pytest.mark.parametrize(
    ("reference", "has"),
    [("samerun@x", False), ("team/x", False), ("localhost/x", True), ("h:5000/x", True)],
)
def test_only_a_name_with_a_host_is_looked_for(reference, has):
    """Nothing of ours is asked of a public registry that never saw it."""
    assert references.has_host(reference) is has


def test_provenance_names_image_base_lock_and_commit():
    """SLSA v1: the subject is the manifest, the materials have their digests."""
    statement = provenance.statement(IMAGE, {"commit": "f" * 40}, "26.1.5")
    materials = statement["predicate"]["buildDefinition"]["resolvedDependencies"]

    assert statement["subject"] == [{"name": "host:5000/x", "digest": {"sha256": "a" * 64}}]
    assert [m["digest"] for m in materials] == [
        {"sha256": "d" * 64},
        {"sha256": "e" * 64},
        {"gitCommit": "f" * 40},
    ]


@pytest.mark.parametrize("name", ["ghcr.io/me/x", "127.0.0.1:5000/team/x-y", "localhost/x"])
def test_a_repository_is_a_host_and_a_name(name):
    """As every registry writes it."""
    assert push.check_repository(name) == name


def test_without_a_repository_the_error_names_the_variable():
    """What to give, and where it can stand."""
    with pytest.raises(UsageError, match="SAMERUN_REGISTRY"):
        push.check_repository(None)


@pytest.mark.parametrize(
    "problem",
    [
        f"manifest for host/x@sha256:{'429' * 21}a not found: manifest unknown",
        f"host/x@sha256:503{'0' * 61}: not found",
        "unauthorized: authentication required (status 503)",
        f"failed to copy sha256:500{'a' * 61}: denied: no rights",
        "no such host",
    ],
)
def test_what_is_absent_or_denied_is_not_tried_again(problem):
    """Whatever numbers stand in a digest: one in fourteen has a 429 or a 50x in it."""
    assert not registry.is_passing(problem)


@pytest.mark.parametrize(
    "problem",
    [
        "received unexpected HTTP status: 503 Service Unavailable",
        "unexpected status from GET request to https://host/v2/: 502 Bad Gateway",
        "toomanyrequests: slow down",
        "failed with status: 429 Too Many Requests",
        "unexpected EOF",
        "read: connection reset by peer",
        "net/http: TLS handshake timeout",
    ],
)
def test_what_is_overloaded_or_cut_off_is_tried_again(problem):
    """Layers that are through are kept."""
    assert registry.is_passing(problem)
