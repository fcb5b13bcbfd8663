import os

import pytest
from sample import sample

from samerun.core import record


@pytest.fixture(autouse=True)
def same_environment():
    """What runs here sets variables for its processes; the next test has none of them."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(autouse=True)
def quiet_wandb(monkeypatch, tmp_path):
    """Offline, in the test's own folder, without any call home."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def folder(tmp_path):
    """A run's folder with its record."""
    path = tmp_path / "run"
    path.mkdir()
    record.write(path, sample())
    return path
