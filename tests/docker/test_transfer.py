"""Images on the move: registries with and without TLS and login, and connections that break."""

import json
import os
import subprocess

import pytest
import registry as registries
from driving import invoke
from images import push_to


def test_push_reads_the_digest_back(registry, small, pushed):
    """What is printed is what the registry serves, and the digest is the local one."""
    assert pushed["pushed"] is True
    assert (
        pushed["pull_reference"] == f"{pushed['reference'].split('@')[0]}@sha256:{pushed['digest']}"
    )
    assert pushed["layers_digest"] == small["layers_digest"]
    assert small["store"] == "classic" or pushed["manifest_digest"] == small["manifest_digest"]


def test_provenance_and_sbom_hang_on_the_pushed_image(registry, pushed):
    """Both are served with the image as their subject, and name its digest."""
    import requests

    name = pushed["pull_reference"].split("@")[0].split("/", 1)[1]
    base = f"http://{registry.name}/v2/{name}"
    accept = {"Accept": "application/vnd.oci.image.manifest.v1+json"}
    found = {}
    for suffix in ("att", "sbom"):
        url = f"{base}/manifests/sha256-{pushed['digest']}.{suffix}"
        manifest = requests.get(url, headers=accept, timeout=10).json()
        assert manifest["subject"]["digest"] == f"sha256:{pushed['digest']}"
        layer = manifest["layers"][0]["digest"]
        found[suffix] = requests.get(f"{base}/blobs/{layer}", timeout=10).json()

    assert found["att"]["subject"][0]["digest"] == {"sha256": pushed["digest"]}
    assert found["att"]["predicateType"] == "https://slsa.dev/provenance/v1"
    assert found["sbom"]["bomFormat"] == "CycloneDX"


def test_pull_brings_the_very_image(gone):
    """The identity after a pull by digest is the one before the push."""
    done = invoke("pull", gone["pull_reference"])
    again = json.loads(invoke("digest", "--image", gone["pull_reference"], "--json").stdout)

    assert done.returncode == 0, done.stderr
    assert {k: again[k] for k in ("digest", "layers_digest", "pull_reference")} == {
        k: gone[k] for k in ("digest", "layers_digest", "pull_reference")
    }


def test_train_pulls_the_image_that_it_is_given(gone, train):
    """`--image NAME@sha256:…` gets that image, runs in it, and the record says pushed."""
    done, run = train("tabular", "--gpus", "0", "--image", gone["pull_reference"])

    assert done.returncode == 0, done.stderr
    assert run.image.digest == gone["digest"]
    assert run.image.pull_reference == gone["pull_reference"]
    assert run.image.pushed is True


def test_train_asks_the_registry_whether_it_still_serves_the_image(make, registry, train):
    """An image that the registry has lost is recorded as not pushed."""
    import requests

    pushed = push_to(registry, make("lost", runs=True), "team/lost")
    name = pushed["pull_reference"].split("@")[0].split("/", 1)[1]
    url = f"http://{registry.name}/v2/{name}/manifests/sha256:{pushed['digest']}"
    assert requests.delete(url, timeout=10).status_code == 202
    done, run = train("tabular", "--gpus", "0", "--image", pushed["pull_reference"])

    assert done.returncode == 0, done.stderr
    assert run.image.pushed is False


def test_a_tag_is_never_pulled(registry, pushed):
    """Neither by `pull` nor by `train`, although the registry has it."""
    tag = f"{pushed['pull_reference'].split('@')[0]}:{pushed['digest'][:11]}"

    pull = invoke("pull", tag)
    train = invoke("train", "tabular", "--gpus", "0", "--image", tag)

    assert (pull.returncode, train.returncode) == (64, 67)
    assert "has no digest" in pull.stderr


def test_an_unknown_digest_is_not_replaced(registry, pushed):
    """The registry has the name, but not this digest: exit code 67, nothing else is run."""
    unknown = f"{pushed['pull_reference'].split('@')[0]}@sha256:{'0' * 64}"

    done = invoke("train", "tabular", "--gpus", "0", "--image", unknown)

    assert done.returncode == 67
    assert "0" * 64 in done.stderr


def test_several_tags_and_registries_are_one_image(client, registry, small, pushed):
    """Under a second name the image keeps its digests; each name has its own reference."""
    other = f"{registry.name}/other/name"
    again = json.loads(invoke("push", small["reference"], "--registry", other, "--json").stdout)
    first = json.loads(invoke("digest", "--image", pushed["reference"], "--json").stdout)

    assert again["digest"] == first["digest"] == pushed["digest"]
    assert again["reference"].startswith(other)
    assert first["reference"] == pushed["reference"]


def test_login_is_asked_for_and_used(client, program, small, tmp_path):
    """Without a login the error names `docker login`; with one the push and SBOM go through."""
    with registries.running(program, tmp_path / "registry", login=True) as registry:
        home = {"DOCKER_CONFIG": str(tmp_path / "docker")}
        target = ["push", small["reference"], "--registry", f"{registry.name}/x"]
        denied = invoke(*target, **home)
        login = ["docker", "login", "-u", registries.USER, "--password-stdin", registry.name]
        subprocess.run(
            login,
            input=registries.PASSWORD.encode(),
            env=os.environ | home,
            check=True,
            capture_output=True,
        )
        done = invoke(*target, **home)

    assert denied.returncode == 83
    assert f"docker login {registry.name}" in denied.stderr
    assert done.returncode == 0, done.stderr
    assert "could not be attached" not in done.stdout
    assert registries.PASSWORD not in done.stdout + done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="the engine's certificates belong to root")
def test_a_registry_with_tls(client, program, small, tmp_path):
    """Not on loopback, where engines wave certificates through; the CA where the engine looks."""
    from pathlib import Path

    host = client.api.inspect_network("bridge")["IPAM"]["Config"][0]["Gateway"]
    tls = registries.certificate(tmp_path, host)
    with registries.running(program, tmp_path / "registry", host=host, tls=tls) as registry:
        target = ["push", small["reference"], "--registry", f"{registry.name}/x", "--json"]
        unknown = invoke(*target)
        trusted = Path("/etc/docker/certs.d") / registry.name
        trusted.mkdir(parents=True)
        try:
            (trusted / "ca.crt").write_bytes(tls[0].read_bytes())
            done = invoke(*target)
        finally:
            (trusted / "ca.crt").unlink(missing_ok=True)
            trusted.rmdir()

    assert unknown.returncode == 83
    assert "certificate" in unknown.stderr
    assert done.returncode == 0, done.stderr
    assert "could not be attached" not in done.stderr
    assert json.loads(done.stdout)["pushed"] is True


def test_a_push_goes_on_where_the_connection_broke(client, registry, small):
    """The registry's connection is cut midway; a later try comes through whole."""
    proxy = registries.CuttingProxy(registry, cuts=1)
    done = invoke("push", small["reference"], "--registry", f"{proxy.name}/cut/push", "--json")
    proxy.close()

    assert proxy.done == 1
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["layers_digest"] == small["layers_digest"]


def test_a_pull_goes_on_where_the_connection_broke(client, registry, gone):
    """As the push does; and what came is checked."""
    proxy = registries.CuttingProxy(registry, cuts=2)
    name = gone["pull_reference"].split("/", 1)[1]
    done = invoke("pull", f"{proxy.name}/{name}")
    proxy.close()

    assert proxy.done == 2
    assert done.returncode == 0, done.stderr
    assert gone["digest"] in done.stdout


@pytest.mark.alone
def test_a_dead_registry_is_a_clean_failure(client, small):
    """Nobody listens: exit code 83, and nothing new is tagged."""
    before = {tag for image in client.images.list() for tag in image.tags}
    address = f"127.0.0.1:{registries.free_port('127.0.0.1')}"
    done = invoke("push", small["reference"], "--registry", f"{address}/x")

    assert done.returncode == 83
    assert "refused" in done.stderr
    assert before == {tag for image in client.images.list() for tag in image.tags}


@pytest.mark.parametrize(
    "name", ["", "plain", "host:5000/Upper", "host:5000/x:tag", "host:5000/x@y"]
)
def test_no_repository_is_a_usage_error(name, small):
    """No host, capital letters, or a tag or digest where only a name belongs."""
    done = invoke("push", small["reference"], "--registry", name)

    assert done.returncode == 64
