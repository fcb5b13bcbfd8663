"""What an image is and holds, and what a build is held to."""

import json

import pytest
from driving import ROOT, invoke


def test_inspect_lists_what_the_image_holds(image):
    """Digests, layers and packages with versions, licenses and sizes, without a start."""
    found = json.loads(invoke("inspect", "--json").stdout)

    packages = {package["name"]: package for package in found["packages"]}
    assert found["image"]["digest"] == image["digest"]
    assert packages["fastai"]["license"].startswith("Apache")
    assert packages["torch"]["bytes"] > 5e8
    assert packages["libc6"]["kind"] == "debian"
    assert sum(layer["bytes"] for layer in found["layers"]) > 4e9
    assert found["labels"]["io.samerun.cuda"] == "13"


def test_inspect_prints_the_bill_of_materials(image):
    """CycloneDX, with every Python and Debian package of the image."""
    sbom = json.loads(invoke("inspect", "--sbom").stdout)

    purls = {component.get("purl", "").split("@")[0] for component in sbom["components"]}
    assert sbom["bomFormat"] == "CycloneDX"
    assert {"pkg:pypi/torch", "pkg:pypi/fastai", "pkg:deb/debian/libc6"} <= purls


def test_inspect_shows_tables(image):
    """A person reads names, sizes and licenses; the rest is a flag away."""
    done = invoke("inspect")

    assert image["digest"] in done.stdout.replace("\n", "")
    assert "torch" in done.stdout
    assert "more" in done.stdout


@pytest.mark.alone
def test_frozen_build_holds_to_the_lock_file(image):
    """`invoke build` writes image.lock.json; `--frozen` passes on it, and fails on another."""
    file = ROOT / "image.lock.json"
    assert invoke("build").returncode == 0
    written = file.read_text()
    same = invoke("build", "--frozen")
    try:
        file.write_text(written.replace(image["layers_digest"], "sha256:" + "0" * 64))
        other = invoke("build", "--frozen")
    finally:
        file.write_text(written)

    assert same.returncode == 0, same.stderr
    assert other.returncode == 82
    assert image["layers_digest"] in other.stderr
