"""
Real engine, real image, real runs: everything goes through the `invoke` command.

The files run side by side, each on one of pytest-xdist's workers (`--dist loadfile`). So a
run's name, which is its container's too, is in one file only.
"""

import contextlib
import fcntl
import json
import subprocess
import tempfile
from pathlib import Path

import images
import pytest
import registry as registries
from driving import HERE, invoke, split

from samerun.core import record
from samerun.core.errors import SamerunError
from samerun.host.machine import engine

# The longest begin first, so that none of them is left alone at the end; behind them all files
# with tests that wait until no other test runs, for that could be minutes.
LONGEST = (
    *("test_vm", "test_verify", "test_nodes", "test_byhand", "test_reproduce", "test_survive"),
    *("test_transfer", "test_sync", "test_project", "test_script", "test_errors", "test_stores"),
)


def pytest_collection_modifyitems(items):
    """Mark every test of this folder: it needs an engine. Order the files by their time."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.docker)
    waiting = {item.path.stem for item in items if item.get_closest_marker("alone")}
    items.sort(key=lambda item: (item.path.stem in waiting, _place(item.path.stem)))


def _place(name):
    return LONGEST.index(name) if name in LONGEST else len(LONGEST)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """Run a test marked `alone` while no other worker runs one: it looks at the whole engine."""
    if HERE not in item.path.parents:
        return (yield)
    kind = fcntl.LOCK_EX if item.get_closest_marker("alone") else fcntl.LOCK_SH
    # Who waits for the engine holds the door: else a test that wants to be alone never gets in.
    with _locked("door", fcntl.LOCK_EX) as door, _locked("engine", kind):
        fcntl.flock(door, fcntl.LOCK_UN)
        return (yield)


@contextlib.contextmanager
def _locked(name, kind):
    path = Path(tempfile.gettempdir()) / f"samerun-tests-{name}.lock"
    with path.open("w") as file:
        fcntl.flock(file, kind)
        yield file


@pytest.fixture(scope="session")
def client():
    """The engine; the tests are not skipped without one, because then nothing is tested."""
    try:
        return engine.connect()
    except SamerunError as error:
        pytest.fail(f"{error}")


@pytest.fixture(scope="session")
def image(client):
    """The image of this checkout, built if it is not there yet."""
    # One worker builds, where there is something to build, and the others find it built.
    with _locked("build", fcntl.LOCK_EX):
        done = invoke("build", "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def train(image, tmp_path, request):
    """Train into a folder of the test's own; return process and record."""
    default = request.path.stem.replace("test_", "run-")

    def run(*arguments, name=default, **changes):
        before, after = split(arguments)
        options = ["--output", tmp_path / "runs", "--name", name, *before]
        done = invoke("train", *options, *after, **changes)
        folder = tmp_path / "runs" / name
        return done, record.read(folder) if (folder / "run.json").is_file() else None

    return run


@pytest.fixture(scope="session")
def program(tmp_path_factory):
    """The registry's program."""
    return registries.find_program(tmp_path_factory.mktemp("program"))


@pytest.fixture(scope="module")
def registry(program, tmp_path_factory):
    """A registry on loopback, without TLS and login."""
    with registries.running(program, tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture(scope="module")
def base_tag(client, image):
    """The local name of the base."""
    digest = image["base"]["reference"].split("@")[1]
    return next(t for t in client.images.get(digest).tags if t.startswith("samerun-base"))


@pytest.fixture(scope="module")
def make(base_tag, tmp_path_factory):
    """Make small images; see ``images.build``."""
    made = []

    def image(name, *, runs=False):
        made.append(f"samerun-small:{name}")
        return images.build(made[-1], tmp_path_factory.mktemp(name), base_tag, runs=runs)

    yield image
    for tag in made:
        subprocess.run(["docker", "rmi", "--force", tag], check=False, capture_output=True)


@pytest.fixture(scope="module")
def small(make):
    """A small image on this machine."""
    return make("shared")


@pytest.fixture(scope="module")
def pushed(small, registry):
    """The small image in the registry."""
    return images.push_to(registry, small, "team/shared")


@pytest.fixture
def gone(client, make, registry, request):
    """An image that is in the registry, and on this machine no longer."""
    name = images.name_of(request.node.name)
    image = images.push_to(registry, make(name, runs="train" in name), f"team/{name}")
    images.forget(client, image)
    return image
