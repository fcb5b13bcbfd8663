"""Two checkouts on one engine: neither takes the other's image."""

import shutil
import subprocess
import threading
import time

import pytest
from driving import ROOT, command, environment, invoke

from samerun.core import contract, record
from samerun.host.checkout.project import Project
from samerun.host.image import build, identity, pins, verify
from samerun.host.run import clean


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


WAITING = """
import pathlib, time
pathlib.Path("started").touch()
while not pathlib.Path("go").exists():
    time.sleep(0.1)
"""


@pytest.fixture
def training(image, tmp_path):
    """A run, in its own folder, whose script waits for a file named go."""
    (tmp_path / "code").mkdir()
    # Its image has this comment, and is no other run's.
    (tmp_path / "code" / "waits.py").write_text(f"# {tmp_path}\n{WAITING}")
    words = ["train", tmp_path / "code" / "waits.py", "--gpus", "0", "--no-network"]
    words += ["--output", tmp_path / "theirs", "--name", "two-waits"]
    with subprocess.Popen(
        command(*words), cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True
    ) as running:
        folder = tmp_path / "theirs" / "two-waits"
        while not (folder / "started").exists():
            assert running.poll() is None, running.stdout.read()
            time.sleep(0.1)
        yield folder, running
        (folder / "go").touch()


@pytest.mark.alone
def test_clean_takes_nothing_of_a_training_elsewhere(client, training, tmp_path):
    """Its container, image and folder stay, though nothing in the cleaned folder needs them."""
    folder, running = training
    done = invoke("clean", "--output", tmp_path / "mine", "--older-than", "0m", "--yes")
    image = record.read(folder).image
    pin = pins.name(image)
    kept = client.images.get(pin).id
    (folder / "go").touch()
    ended = running.wait(timeout=60)

    assert done.returncode == 0, done.stderr
    assert "two-waits" not in done.stdout
    assert pin not in done.stdout
    assert ended == 0
    assert kept == client.images.get(image.reference).id


@pytest.mark.alone
def test_clean_leaves_a_name_that_a_new_run_needs_by_now(client, make, tmp_path):
    """The user may take a minute to confirm what is to be removed."""
    made = make("two-cleaned")
    image = identity.identify(client, made["reference"])
    pin = pins.keep(client, image, tmp_path / "deleted")
    planned = clean.plan(client, tmp_path / "none", (), None)
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "run.json").write_text("{}")
    pins.keep(client, image, tmp_path / "new")
    clean.carry_out(client, planned)
    left = client.images.list(name=pin)
    shutil.rmtree(tmp_path / "new")
    clean.carry_out(client, planned)

    assert pin in planned.names
    assert left
    assert not client.images.list(name=pin)
