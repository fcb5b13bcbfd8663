"""What the container with the key is shown of a run: plain files of it, and nothing else."""

import os

import pytest

from samerun.core.errors import RecordError
from samerun.host.run import outbox

NAME = "offline-run-20260101_000000-abc"
DIR = f"/output/wandb/{NAME}"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A run's folder with one W&B folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "run"
    (path / "wandb" / NAME / "files").mkdir(parents=True)
    (path / "wandb" / NAME / "run-abc.wandb").write_bytes(b"rows")
    (path / "wandb" / "settings").write_text("http_proxy = http://attacker")
    (path / "model.pkl").write_text("model")
    return path


def copy(folder):
    """The copy that is mounted over the W&B folder."""
    mounts = outbox.mounts(folder, [DIR], (os.getuid(), os.getgid()))
    assert [(m.target, m.read_only) for m in mounts] == [("/output", True), (DIR, False)]
    return outbox.Path(mounts[1].source)


def test_the_run_is_seen_read_only_and_its_wandb_folder_as_a_copy(folder):
    """wandb notes there how far it came; the run's own folder stays as it is."""
    place = copy(folder)
    (place / "run-abc.wandb.syncstate").write_text("1")

    assert (place / "run-abc.wandb").read_bytes() == b"rows"
    assert (copy(folder) / "run-abc.wandb.syncstate").read_text() == "1"
    assert not (folder / "wandb" / NAME / "run-abc.wandb.syncstate").exists()
    outbox.forget(folder)
    assert not place.exists()


def test_what_was_written_since_is_in_the_next_copy(folder):
    """A resumed run's log is longer."""
    copy(folder)
    (folder / "wandb" / NAME / "run-abc.wandb").unlink()
    (folder / "wandb" / NAME / "run-abc.wandb").write_bytes(b"more rows")

    assert (copy(folder) / "run-abc.wandb").read_bytes() == b"more rows"


def test_a_file_that_wandb_linked_within_the_run_is_the_file(folder):
    """`wandb.save` links it by the container's path."""
    (folder / "wandb" / NAME / "files" / "model.pkl").symlink_to("/output/model.pkl")

    found = copy(folder) / "files" / "model.pkl"

    assert not found.is_symlink()
    assert found.read_text() == "model"


@pytest.mark.parametrize(
    "lead", ["/run/secrets/netrc", "/etc/hostname", "../../../../secret", "/output/../secret"]
)
def test_a_link_that_leads_out_of_the_run_is_refused_by_name(folder, lead):
    """wandb would upload what it leads to."""
    (folder.parent / "secret").write_text("key")
    (folder / "wandb" / NAME / "files" / "leak.txt").symlink_to(lead)

    with pytest.raises(RecordError, match=r"leak\.txt"):
        copy(folder)


@pytest.mark.parametrize(
    "name", ["/output/wandb", "/etc", f"/output/../{NAME}", "/output/wandb/files", "wandb"]
)
def test_only_wandbs_own_folders_of_the_run_are_shown(folder, name):
    """A record could name any."""
    with pytest.raises(RecordError):
        outbox.mounts(folder, [name], (os.getuid(), os.getgid()))


def test_a_linked_wandb_folder_is_refused(folder, tmp_path):
    """It would lead anywhere."""
    (folder / "wandb" / NAME).rename(tmp_path / NAME)
    (folder / "wandb" / NAME).symlink_to(tmp_path / NAME)

    with pytest.raises(RecordError, match="link"):
        copy(folder)
