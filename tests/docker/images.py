"""Small images of our kind, to move about: a minute is enough for many."""

import json
import os
import re
import shutil
import subprocess

from driving import invoke

from samerun.host.image import buildkit
from samerun.host.image.buildkit import Build
from samerun.host.machine import engine

# The identity's code does not look at the size.
LABELS = ("io.samerun.cuda=13", "io.samerun.base.origin=bootstrapped", "io.samerun.lock=0")
FACTS = {"packages": {}, "installed": [], "architectures": []}
SBOM = {"bomFormat": "CycloneDX", "components": []}


def build(tag, folder, base_tag, *, runs, entry=("echo",)):
    """
    Make an image with content of its own, and return its identity.

    Imported, not built: BuildKit's cache would keep what a test wants gone. One that has
    to run something is built on the base, though.
    """
    fill(folder / "root")
    if runs:
        lines = [f"FROM {base_tag}", "COPY root /", f"ENTRYPOINT {json.dumps(entry)}"]
        (folder / "Dockerfile").write_text("\n".join(lines))
        labels = dict(label.split("=") for label in LABELS)
        # As the kit builds: Docker's own media types have none for the base's zstd layer.
        plan = Build(context=str(folder), tag=tag, labels=labels)
        buildkit.run(engine.connect(), plan, folder / "build.log", lambda _: None)
    else:
        archive = shutil.make_archive(folder / "root", "tar", folder / "root")
        changes = [f"--change=LABEL {label}" for label in LABELS]
        command = ["docker", "import", *changes, archive, tag]
        subprocess.run(command, check=True, capture_output=True)
    return json.loads(invoke("digest", "--image", tag, "--json").stdout)


def fill(root):
    """Write what an image of ours holds, and three megabytes that no other image has."""
    facts = root / "opt" / "samerun"
    facts.mkdir(parents=True)
    (facts / "image.json").write_text(json.dumps(FACTS))
    (facts / "sbom.cdx.json").write_text(json.dumps(SBOM))
    (root / "payload").write_bytes(os.urandom(3_000_000))


def push_to(registry, image, name):
    """Push an image, and return its identity as the registry gives it."""
    done = invoke("push", image["reference"], "--registry", f"{registry.name}/{name}", "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def forget(client, pushed):
    """Remove an image with all its names."""
    for name in client.api.inspect_image(pushed["reference"])["RepoTags"]:
        client.images.remove(name, force=True)
    remove = ["docker", "rmi", "--force", pushed["pull_reference"]]
    subprocess.run(remove, check=False, capture_output=True)


def name_of(test):
    """Return a repository's name for a test."""
    return re.sub(r"[^a-z]+", "-", test.removeprefix("test_"))[:40].strip("-")
