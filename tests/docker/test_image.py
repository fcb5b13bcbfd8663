"""Build and identity."""

import json
import re
import shutil
import subprocess
import time

import pytest
from driving import ROOT, invoke


@pytest.mark.alone
def test_second_build_does_nothing(image):
    """With nothing changed the same identity comes back without BuildKit."""
    began = time.monotonic()
    done = invoke("build", "--json")

    assert lasting(image) == lasting(json.loads(done.stdout))
    assert done.stderr == ""
    assert time.monotonic() - began < 10


def lasting(identity):
    """Leave out the names that other tests give the image meanwhile, by a build or a push."""
    names = [n for n in identity["repo_digests"] if n.startswith("samerun@")]
    return {**identity, "repo_digests": names}


def test_digest_is_64_hexadecimal_digits(image):
    """`invoke digest` prints the identity alone, fit for a W&B tag."""
    done = invoke("digest")

    assert re.fullmatch(r"[0-9a-f]{64}\n", done.stdout)
    assert image["digest"] == done.stdout.strip()
    assert lasting(image) == lasting(json.loads(invoke("digest", "--json").stdout))


def test_identity_is_complete(image):
    """Every digest that this store knows, the base, the lock and the versions."""
    assert image["config_digest"].startswith("sha256:")
    assert image["layers_digest"].startswith("sha256:")
    assert image["base"]["origin"] in ("pulled", "bootstrapped")
    assert "@sha256:" in image["base"]["reference"]
    assert {"torch", "fastai", "wandb"} <= set(image["packages"])
    assert "+cu13" in image["packages"]["torch"] or image["cuda"] == "13"


def test_image_resolves_by_its_reference(client, image):
    """The recorded reference runs here without any tag."""
    assert client.images.get(image["reference"])


def copy(checkout):
    """Copy this checkout without what builds and runs leave."""
    ignore = shutil.ignore_patterns("runs", ".git", ".samerun", ".venv", "*.egg-info", ".*_cache")
    return shutil.copytree(ROOT, checkout, ignore=ignore)


def test_build_failure_shows_the_reason_and_keeps_the_log(image, tmp_path):
    """The last lines of BuildKit's output, and where the rest is; exit code 71."""
    checkout = copy(tmp_path / "checkout")
    dockerfile = checkout / "Dockerfile"
    broken = "RUN echo the-reason-is-here && false\nRUN --mount=type=bind,from=tools"
    dockerfile.write_text(
        dockerfile.read_text().replace("RUN --mount=type=bind,from=tools", broken, 1)
    )

    done = invoke("build", cwd=checkout)

    assert done.returncode == 71
    assert "the-reason-is-here" in done.stderr
    assert "the-reason-is-here" in (checkout / ".samerun" / "build.log").read_text()


def test_wrong_hash_in_the_lock_fails_the_build(image, tmp_path):
    """The package is fetched, does not match, and is named with both hashes."""
    checkout = copy(tmp_path / "checkout")
    lock = checkout / "uv.lock"
    before, entry, after = re.split(
        r'(name = "fastprogress"\nversion.*?(?=\[\[package))', lock.read_text(), flags=re.DOTALL
    )
    lock.write_text(before + re.sub(r"sha256:\w{64}", f"sha256:{'0' * 64}", entry) + after)

    done = invoke("build", cwd=checkout)

    assert done.returncode == 71
    assert "Hash mismatch for `fastprogress" in done.stderr
    assert f"sha256:{'0' * 64}" in done.stderr


def test_missing_image_is_not_replaced_by_another():
    """An unknown digest is an error, never a fall-back to a tag."""
    done = invoke("train", "tabular", "--gpus", "0", "--image", "samerun@sha256:" + "0" * 64)

    assert done.returncode == 67
    assert "0" * 64 in done.stderr


def test_history_and_labels_name_no_machine_path(image):
    """What the build read from this machine does not stay in the image."""
    history = ["docker", "history", "--no-trunc", image["reference"]]
    text = subprocess.run(history, capture_output=True, text=True, check=True).stdout

    assert str(ROOT) not in text
    assert "BEGIN CERTIFICATE" not in text
