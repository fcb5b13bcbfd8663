from samerun.host.image import identity

DIGEST = "sha256:" + "1" * 64
CONFIG = "sha256:" + "2" * 64
RAW = {
    "Id": CONFIG,
    "RepoTags": ["samerun:cuda13"],
    "RepoDigests": [],
    "RootFS": {"Layers": ["sha256:a", "sha256:b"]},
    "Os": "linux",
    "Architecture": "amd64",
    "Config": {"Labels": {"io.samerun.cuda": "13"}},
}


def test_containerd_store_names_the_manifest():
    """There the ID is the manifest's digest, pushed or not."""
    raw = RAW | {"Id": DIGEST, "RepoDigests": [f"samerun@{DIGEST}"]}

    image = identity.from_metadata(raw, "samerun:cuda13", "containerd", {"config_digest": CONFIG})

    assert (image.digest_kind, image.digest) == ("manifest", "1" * 64)
    assert f"samerun@{DIGEST}" == image.reference
    assert image.config_digest == CONFIG
    assert image.pushed is None


def test_containerd_store_tells_an_index():
    """With attestations the ID is the index's digest."""
    descriptor = {"mediaType": "application/vnd.oci.image.index.v1+json"}
    raw = RAW | {"Id": DIGEST, "Descriptor": descriptor}

    image = identity.from_metadata(raw, "samerun:cuda13", "containerd", {})

    assert (image.digest_kind, image.index_digest) == ("index", DIGEST)
    assert image.manifest_digest is None


def test_classic_store_without_a_push_has_the_config_only():
    """The reference is then the ID, which runs here but can't be pulled."""
    image = identity.from_metadata(RAW, "samerun:cuda13", "classic", {})

    assert (image.digest_kind, image.digest, image.reference) == ("config", "2" * 64, CONFIG)


def test_classic_store_matches_the_repository():
    """RepoDigests has an entry per repository; the first may be another's."""
    other = "sha256:" + "9" * 64
    raw = RAW | {"RepoDigests": [f"other@{other}", f"host:5000/samerun@{DIGEST}"]}

    image = identity.from_metadata(raw, "host:5000/samerun:cuda13", "classic", {})

    assert f"host:5000/samerun@{DIGEST}" == image.reference
    assert image.config_digest == CONFIG


def test_layers_digest_depends_on_layers_and_order():
    """It is a hash over the DiffIDs."""
    assert identity.hash_layers(["a", "b"]) != identity.hash_layers(["b", "a"])
    assert identity.hash_layers(["a", "b"]) == identity.hash_layers(["a", "b"])


def test_image_that_is_not_ours_is_described_too():
    """Without labels the base is unknown."""
    image = identity.from_metadata(RAW | {"Config": {}}, "other:1", "classic", {})

    assert image.base.origin == "unknown"
