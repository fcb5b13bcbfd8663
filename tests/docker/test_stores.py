"""Both image stores, by a second engine beside the machine's own; and a disk that is full."""

import json
import shutil
import subprocess

import docker
import engines
import pytest
from driving import ROOT, environment, invoke

from samerun.core.errors import BaseUnavailable, BuildFailed
from samerun.host.checkout import lock
from samerun.host.checkout.project import Project
from samerun.host.image import base, buildkit
from samerun.host.image.buildkit import Build
from samerun.host.machine import engine


@pytest.fixture(scope="module")
def other(client, tmp_path_factory):
    """An engine with the store that the machine's own has not."""
    is_classic = engine.inspect(client).store == "classic"
    folder = tmp_path_factory.mktemp("engine")
    with engines.running(folder, containerd_store=is_classic) as host:
        yield host


def digests(reference, **host):
    done = invoke("digest", "--image", reference, "--json", **host)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_an_archive_keeps_the_identity_in_the_other_store(client, base_tag, other, tmp_path):
    """Loaded there, the image has the same layers, and answers to the digest it had here."""
    file = tmp_path / "image.tar"
    here = digests(base_tag)
    assert invoke("save", base_tag, "--file", file).returncode == 0
    loaded = invoke("load", file, **other)
    assert loaded.returncode == 0, loaded.stderr
    there = digests(here["reference"], **other)

    assert here["store"] != there["store"]
    assert here["layers_digest"] == there["layers_digest"]
    assert here["manifest_digest"] in (None, there["manifest_digest"])


def test_a_pushed_image_has_one_identity_in_both_stores(client, base_tag, other, registry):
    """Pushed from here and pulled there by digest: every digest that both know is equal."""
    name = f"{registry.name}/base"
    done = invoke("push", base_tag, "--registry", name, "--json")
    assert done.returncode == 0, done.stderr
    here = json.loads(done.stdout)
    pulled = invoke("pull", here["pull_reference"], **other)
    assert pulled.returncode == 0, pulled.stderr
    there = digests(here["pull_reference"], **other)

    for field in ("reference", "digest", "manifest_digest", "layers_digest", "pull_reference"):
        assert here[field] == there[field]


def test_the_other_store_pushes_a_digest_that_this_one_pulls(client, base_tag, other, registry):
    """The classic store has a manifest only once it has pushed; then the two agree."""
    archive = subprocess.run(["docker", "save", base_tag], capture_output=True, check=True).stdout
    load = ["docker", "load", "--quiet"]
    subprocess.run(load, input=archive, env=environment(**other), check=True, capture_output=True)
    before = digests(base_tag, **other)
    done = invoke("push", base_tag, "--registry", f"{registry.name}/from-other", "--json", **other)
    assert done.returncode == 0, done.stderr
    there = json.loads(done.stdout)
    assert invoke("pull", there["pull_reference"]).returncode == 0
    here = digests(there["pull_reference"])

    assert before["store"] == "containerd" or before["digest_kind"] == "config"
    assert there["digest_kind"] == "manifest"
    assert there["pushed"] is True
    assert here["digest"] == there["digest"]
    assert here["layers_digest"] == before["layers_digest"] == there["layers_digest"]


@pytest.fixture
def checkout(tmp_path):
    """A checkout whose base is pinned to somewhere else."""
    shutil.copytree(ROOT / "docker", tmp_path / "docker")
    text = (ROOT / "docker" / "base.toml").read_text()
    pinned = Project(root=ROOT).base_pins()["pulled"]["reference"]

    def pin(reference):
        changed = text.replace(pinned, reference)
        (tmp_path / "docker" / "base.toml").write_text(changed)
        return Project(root=tmp_path)

    return pin


def test_the_base_is_pulled_by_its_digest(client, base_tag, registry, checkout):
    """From a registry on loopback; `--base pulled` records it as pulled, with the digest."""
    name = f"{registry.name}/python"
    done = invoke("push", base_tag, "--registry", name, "--json")
    digest = json.loads(done.stdout)["manifest_digest"]
    project = checkout(f"{name}:3@{digest}")
    tag, found = base.provide(client, project, "pulled", say=print)

    assert found.origin == "pulled"
    assert found.reference == f"{name}:3@{digest}"
    assert client.images.get(tag).id == client.images.get(base_tag).id
    client.images.remove(tag)


@pytest.mark.alone
def test_a_base_with_a_wrong_digest_is_no_base(client, registry, checkout):
    """The registry has the name, not the digest: an error, and nothing is tagged."""
    project = checkout(f"{registry.name}/python:3@sha256:{'0' * 64}")
    before = {tag for image in client.images.list() for tag in image.tags}

    with pytest.raises(BaseUnavailable, match="can't be pulled"):
        base.provide(client, project, "pulled", say=print)

    assert before == {tag for image in client.images.list() for tag in image.tags}


def test_the_lock_pins_the_tag_to_its_digest_of_today(client, base_tag, registry, checkout):
    """`invoke lock` asks the registry for the tag, and writes what it has now."""
    name = f"{registry.name}/moving"
    done = invoke("push", base_tag, "--registry", name, "--json")
    pushed = json.loads(done.stdout)
    tag = pushed["digest"][:12]
    project = checkout(f"{name}:{tag}@sha256:{'0' * 64}")

    told = lock.pin_base(project)

    assert pushed["manifest_digest"] in told
    assert project.base_pins()["pulled"]["reference"] == (
        f"{name}:{tag}@{pushed['manifest_digest']}"
    )
    assert "is up to date" in lock.pin_base(project)


def test_a_full_disk_ends_the_build_and_tags_nothing(base_tag, tmp_path, monkeypatch):
    """The error says that the disk is full; no image of that name is there, whole or half."""
    archive = subprocess.run(["docker", "save", base_tag], capture_output=True, check=True).stdout
    with engines.running(tmp_path / "small", containerd_store=True, size="400m") as host:
        load = ["docker", "load", "--quiet"]
        subprocess.run(load, input=archive, env=environment(**host), check=True)
        for name, value in host.items():
            monkeypatch.setenv(name, value)
        context = tmp_path / "context"
        context.mkdir()
        fill = "RUN head -c 600000000 /dev/urandom > /big"
        (context / "Dockerfile").write_text(f"FROM {base_tag}\n{fill}\n")
        client = docker.from_env()
        build = Build(context=str(context), tag="samerun-full:test")
        with pytest.raises(BuildFailed, match="The disk is full"):
            buildkit.run(client, build, tmp_path / "build.log", print)
        tags = {tag for image in client.images.list() for tag in image.tags}

    assert tags == {base_tag}
