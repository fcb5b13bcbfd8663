"""Images as files: the identity kept, damage seen; and what `invoke verify` tells."""

import json
import os
import subprocess
import tarfile

import pytest
from driving import invoke
from images import forget, push_to

from samerun.host.image import layers


def test_save_and_load_keep_the_identity(client, make, registry, tmp_path):
    """On a machine that never saw it: same layers, and where it can be pulled from."""
    pushed = push_to(registry, make("saved"), "team/saved")
    file = tmp_path / "image.tar"
    saved = invoke("save", pushed["reference"], "--file", file)
    forget(client, pushed)
    home = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    loaded = invoke("load", file, **home)
    again = json.loads(
        invoke("digest", "--image", pushed["pull_reference"], "--json", **home).stdout
    )

    assert saved.returncode == 0, saved.stderr
    assert loaded.returncode == 0, loaded.stderr
    for name in ("layers_digest", "manifest_digest", "config_digest", "pull_reference"):
        assert again[name] == pushed[name]


@pytest.mark.alone
@pytest.mark.parametrize("damage", ["cut", "flipped", "foreign"])
def test_a_damaged_archive_is_refused_whole(client, make, tmp_path, damage):
    """Cut off, a bit flipped in a layer, or not ours: exit code 83, and no image is left."""
    file = tmp_path / "image.tar"
    image = make(f"damaged-{damage}")
    assert invoke("save", image["reference"], "--file", file).returncode == 0
    client.images.remove(f"samerun-small:damaged-{damage}", force=True)
    DAMAGE[damage](file)
    before = {image.id for image in client.images.list(all=True)}
    tags = {tag for image in client.images.list() for tag in image.tags}
    done = invoke("load", file)

    assert done.returncode == 83, done.stdout
    assert before == {image.id for image in client.images.list(all=True)}
    assert tags == {tag for image in client.images.list() for tag in image.tags}


def cut(file):
    os.truncate(file, file.stat().st_size // 2)


def flip(file):
    """Flip one bit in the middle of the archive's largest file, which is a layer."""
    with tarfile.open(file) as tar:
        largest = max(tar.getmembers(), key=lambda member: member.size)
    with file.open("r+b") as raw:
        raw.seek(largest.offset_data + largest.size // 2)
        byte = raw.read(1)[0]
        raw.seek(-1, os.SEEK_CUR)
        raw.write(bytes([byte ^ 1]))


def replace(file):
    with tarfile.open(file, "w"):
        pass


DAMAGE = {"cut": cut, "flipped": flip, "foreign": replace}


def test_differing_files_are_named(client, base_tag, tmp_path):
    """What `invoke verify` tells of two images that should be one."""
    text = f"FROM {base_tag}\nRUN echo {{0}} > /text; touch /{{0}}; mkdir -m {{1}} /folder\n"
    for tag, mode in (("one", "700"), ("two", "755")):
        (tmp_path / "Dockerfile").write_text(text.format(tag, mode))
        build = ["docker", "build", "--quiet", "--provenance=false", "--tag"]
        command = [*build, f"samerun-small:{tag}", tmp_path]
        subprocess.run(command, check=True, capture_output=True)
    lines = layers.differing_files(client, "samerun-small:one", "samerun-small:two")
    for tag in ("one", "two"):
        client.images.remove(f"samerun-small:{tag}", force=True)

    told = {line.split(":")[0]: line for line in lines}
    assert "content" in told["/text"]
    assert told["/one"].endswith("only in the first")
    assert told["/two"].endswith("only in the second")
    assert "mode 448 and 493" in told["/folder"]


def test_base_holds_nothing_of_the_machine_that_made_it(client, base_tag, tmp_path):
    """Neither its name nor its name servers: the base would differ on each machine."""
    base = layers.Archive(client, base_tag, tmp_path / "base.tar")

    assert not {"etc/hostname", "etc/resolv.conf"} & base.entries(0).keys()
    assert {"python3", "ca-certificates"} <= base.packages().keys()
