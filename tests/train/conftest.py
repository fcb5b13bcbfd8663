import pytest

from samerun import record


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
    image = record.Image(
        reference="samerun@sha256:" + "a" * 64,
        digest="a" * 64,
        digest_kind="manifest",
        layers_digest="sha256:b",
        store="containerd",
        platform="linux/amd64",
        base=record.Base(reference="base@sha256:c", origin="pulled"),
    )
    run = record.Run(
        name="r",
        image=image,
        code=record.Code(kind="recipe", target="digits", where="image"),
        command=("digits",),
        arguments=(),
        seed=1,
        topology=record.Topology(gpus="0", procs=1, shm_size="1g"),
        hardware=record.Hardware(cpu="c", cores=1, memory_bytes=1, kernel="k", engine="e"),
        outcome=record.Outcome(created="2026-01-01T00:00:00+00:00"),
    )
    path = tmp_path / "run"
    path.mkdir()
    record.write(path, run)
    return path
