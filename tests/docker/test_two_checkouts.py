"""Two checkouts on one engine: neither takes the other's image."""

import shutil
import threading

import pytest
from driving import ROOT

from samerun.core import contract
from samerun.host.checkout.project import Project
from samerun.host.image import build, identity, pins, verify


@pytest.fixture
def checkouts(client, image, tmp_path):
    """Two checkouts whose images differ in one line of code."""
    made = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        project = verify.copy_inputs(Project(root=ROOT), tmp_path / name)
        code = project.root / "src" / "samerun" / "core" / "__init__.py"
        code.write_text(f"{code.read_text()}\n# {name}\n")
        made.append(project)
    yield made
    for project in made:
        client.images.remove(project.tag("13"), noprune=True)


def test_each_checkout_gets_its_own_image_though_both_build_at_once(client, checkouts):
    """And has it still when the other one has built again."""
    found = {}

    def ensure(project):
        found[project.root] = build.ensure(client, project, cuda="13", say=lambda _: None)

    for _ in range(2):
        threads = [threading.Thread(target=ensure, args=[project]) for project in checkouts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    one, two = (found[project.root] for project in checkouts)
    assert one.digest != two.digest
    for project, image in zip(checkouts, (one, two), strict=True):
        assert identity.identify(client, project.tag("13")).digest == image.digest
        labels = client.api.inspect_image(project.tag("13"))["Config"]["Labels"]
        assert labels[contract.LABEL_INPUTS] == image.inputs


def test_a_checkout_takes_the_image_of_another_one_with_the_same_inputs(client, image, tmp_path):
    """Without a build: what is in it is the same."""
    project = verify.copy_inputs(Project(root=ROOT), tmp_path)
    shutil.copyfile(ROOT / "Dockerfile", tmp_path / "Dockerfile")
    said = []
    found = build.ensure(client, project, cuda="13", say=said.append)
    client.images.remove(project.tag("13"), noprune=True)

    assert found.digest == image["digest"]
    assert said == []


def test_clean_removes_the_names_of_checkouts_that_are_gone(client, image, tmp_path):
    """And of no other: that of this checkout stays."""
    project = verify.copy_inputs(Project(root=ROOT), tmp_path / "gone")
    shutil.copyfile(ROOT / "Dockerfile", project.root / "Dockerfile")
    build.ensure(client, project, cuda="13", say=lambda _: None)
    name = project.tag("13")
    before = pins.abandoned(client)
    shutil.rmtree(project.root)
    after = pins.abandoned(client)
    pins.forget(client, name)

    assert name not in before
    assert name in after
    assert Project(root=ROOT).tag("13") not in after
    assert not client.images.list(name=name)
