"""A project's packages are a layer of their own, the same on every machine."""

import functools
import json

import pytest
import wheels
from driving import ROOT, invoke

from samerun.host.checkout import wanted_packages
from samerun.host.checkout.project import Project
from samerun.host.image import derived, identity, package_layer
from samerun.host.image.buildkit import Build

OWN = Project(root=ROOT)

SCRIPT = """
import subprocess, greet, glue
said = subprocess.run(["greet-tool"], capture_output=True).stdout
print("SEEN", greet.VERSION, glue.VERSION, said)
"""
GREET = "import glue\nVERSION = '1.0'\ndef main():\n    print('hello')\n"


@pytest.fixture
def project(tmp_path):
    """A project with two packages, one of which needs the other and has a command."""
    root, index = tmp_path / "flora", tmp_path / "index"
    root.mkdir()
    content = {"greet/__init__.py": GREET}
    wheels.make(index, "greet", requires=["glue", "numpy"], files=content)
    wheels.make(index, "glue")
    wheels.make(index, "six", "0.1")
    wheels.make(index, "numpy", "2.5.5")
    (root / "requirements.txt").write_text(f"--no-index\n--find-links {index}\ngreet\ntorch>=1\n")
    (root / "train.py").write_text(SCRIPT)
    return root


def test_packages_are_added_and_code_does_not_touch_them(train, project, image):
    """The record, the image's contents and its bill of materials know them."""
    done, run = train(project / "train.py", "--gpus", "0", name="packages-a")
    assert "SEEN 1.0 1.0 b'hello\\n'" in done.stdout, done.stderr
    assert (run.image.packages["greet"], run.image.packages["glue"]) == ("1.0", "1.0")
    assert run.image.packages["torch"] == image["packages"]["torch"]

    (project / "train.py").write_text(f"{SCRIPT}print('changed')\n")
    done, other = train(project / "train.py", "--gpus", "0", name="packages-c")
    assert "Adding" not in done.stdout
    assert other.image.digest != run.image.digest
    found = json.loads(invoke("inspect", "--image", other.image.reference, "--json").stdout)
    assert {"greet", "glue"} <= {one["name"] for one in found["packages"]}
    bill = json.loads(invoke("inspect", "--image", other.image.reference, "--sbom").stdout)
    assert {"greet", "glue"} <= {one["name"] for one in bill["components"]}


def test_the_same_lock_is_the_same_layer_from_nothing(client, image, project, monkeypatch):
    """Bits, not names: without any cache, of uv and of BuildKit."""
    parent = identity.identify(client, image["reference"])
    packages = wanted_packages.of(project, ())
    digests = []
    for number in range(2):
        monkeypatch.setenv("UV_CACHE_DIR", str(project.parent / f"cache{number}"))
        found = package_layer.derive(client, OWN, project, packages, parent, lambda text: None)
        digests.append(found.digest)
        client.api.remove_image(found.reference, force=True)
        monkeypatch.setattr(derived, "Build", functools.partial(Build, no_cache=True))
    assert digests[0] == digests[1] != parent.digest


def test_a_missing_module_is_said_before_the_run_and_in_it(train, image, project):
    """With the package that has it."""
    (project / "train.py").write_text("import skimage\n")
    done = invoke("train", project / "train.py", "--gpus", "0", "--image", image["reference"])
    assert done.returncode == 86
    assert "--with scikit-image" in done.stderr

    (project / "train.py").write_text("def main():\n    import cv2\nmain()\n")
    done, run = train(project / "train.py", "--gpus", "0", name="packages-d")
    assert done.returncode == 1
    assert "`--with opencv-python-headless`" in done.stderr
    assert "worker.py" not in done.stderr
    assert run.outcome.failure["where"] == "/code/train.py:2"


def test_a_package_of_the_image_is_replaced_by_name_only(train, project):
    """Its old files are gone."""
    (project / "train.py").write_text(
        "import importlib.metadata as m, six\nprint('SEEN', m.version('six'), six.VERSION)\n"
    )
    done, run = train(project / "train.py", "--gpus", "0", "--with", "six==0.1", name="packages-e")
    assert "SEEN 0.1 0.1" in done.stdout, done.stderr
    assert run.image.packages["six"] == "0.1"
