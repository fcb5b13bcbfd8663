"""Real engine, real image, real runs: everything goes through the `invoke` command."""

import json

import pytest
from driving import HERE, invoke, split

from samerun import record
from samerun.errors import SamerunError
from samerun.host import engine


def pytest_collection_modifyitems(items):
    """Mark every test of this folder: it needs an engine."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.docker)


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
    done = invoke("build", "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def train(image, tmp_path):
    """Train into a folder of the test's own; return process and record."""

    def run(*arguments, name="run", **changes):
        before, after = split(arguments)
        options = ["--output", tmp_path / "runs", "--name", name, *before]
        done = invoke("train", *options, *after, **changes)
        folder = tmp_path / "runs" / name
        return done, record.read(folder) if (folder / "run.json").is_file() else None

    return run
