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


def fill(folder, *dirs):
    """Fill the outbox of the run's only W&B run; return it."""
    mailbox = outbox.folder_of(folder, "abc")
    outbox.fill(folder, dirs, mailbox, {"id": "abc"}, (os.getuid(), os.getgid()))
    return mailbox


def copy(folder):
    """The copies of the files of the W&B folder."""
    (copied,) = fill(folder, DIR).glob("offline-run-*/files")
    return copied


def test_only_files_and_what_the_server_has_are_in_the_outbox(folder):
    """No log and no settings; the run's own folder stays as it is."""
    (folder / "wandb" / NAME / "files" / "media").mkdir(parents=True)
    (folder / "wandb" / NAME / "files" / "media" / "a.png").write_bytes(b"a")

    found = copy(folder)

    assert [p.relative_to(found).as_posix() for p in found.rglob("*.*")] == ["media/a.png"]
    assert {p.name for p in outbox.folder_of(folder, "abc").iterdir()} == {
        outbox.REQUEST,
        outbox.PurePosixPath(outbox.LOGS).name,
    }
    assert outbox.age(outbox.folder_of(folder, "abc")) < 60
    outbox.forget(folder)
    assert not found.exists()
    assert outbox.age(outbox.folder_of(folder, "abc")) > 10**9


def test_the_newest_start_has_the_last_word_on_a_file(folder):
    """All starts of a run are uploaded together."""
    later = folder / "wandb" / "offline-run-20260102_000000-abc"
    (later / "files").mkdir(parents=True)
    (later / "files" / "output.log").write_text("new")
    (folder / "wandb" / NAME / "files" / "output.log").write_text("old")

    (found,) = fill(folder, DIR, f"/output/wandb/{later.name}").glob("*/files")

    assert (found / "output.log").read_text() == "new"
    assert (folder / "wandb" / NAME / "files" / "output.log").read_text() == "old"


def test_a_file_that_wandb_linked_within_the_run_is_the_file(folder):
    """`wandb.save` links it by the container's path."""
    (folder / "wandb" / NAME / "files" / "model.pkl").symlink_to("/output/model.pkl")

    found = copy(folder) / "model.pkl"

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
        fill(folder, name)


def test_a_linked_wandb_folder_is_refused(folder, tmp_path):
    """It would lead anywhere."""
    (folder / "wandb" / NAME).rename(tmp_path / NAME)
    (folder / "wandb" / NAME).symlink_to(tmp_path / NAME)

    with pytest.raises(RecordError, match="link"):
        copy(folder)
