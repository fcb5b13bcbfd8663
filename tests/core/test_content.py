"""One fingerprint of a folder, whoever takes it."""

import os

import pytest

from samerun.core import content, tree
from samerun.host.launch import data
from samerun.train.standalone import probe


def taken(folder):
    """Return the entry of the record for *folder*, by the host."""
    return data.fingerprint_folder(data.list_files(data.Folder(path=folder))).entry


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "1.txt").write_text("one")
    (tmp_path / "2.txt").write_text("two")
    (tmp_path / "link.txt").symlink_to("2.txt")
    (tmp_path / "gone").symlink_to("nowhere")
    return tmp_path


def test_host_and_container_take_the_same_fingerprint(folder, capsys):
    """Of the same files, with the same number and bytes; the container says what it took."""
    here, there = taken(folder), probe.read_data(folder, "s3://photos")

    assert here.fingerprint == there.fingerprint
    assert (here.files, here.size_bytes) == (there.files, there.size_bytes) == (3, 9)
    assert (there.source, here.seconds) == ("s3://photos", None)
    assert "to compute its fingerprint: 3 files, 0.0 MB" in capsys.readouterr().err


def test_the_fingerprint_is_what_it_was_in_earlier_records(folder):
    """A run of last year is still to be made again: this value never changes."""
    assert content.fingerprint(tree.scan(folder)) == (
        "sha256:e95ea61414af85551af475ffef57727465f13247e2539aa57356f23f9eded686"
    )


def test_a_name_need_not_be_utf_8(folder):
    """Old archives hold such names; one more byte in it is another fingerprint."""
    before = taken(folder).fingerprint
    odd = os.fsencode(folder) + b"/caf\xe9.txt"
    os.close(os.open(odd, os.O_CREAT))
    first = taken(folder).fingerprint
    os.rename(odd, os.fsencode(folder) + b"/caf\xe8.txt")

    assert len({before, first, taken(folder).fingerprint}) == 3


def test_many_files_are_read_in_batches(tmp_path, monkeypatch):
    """Their order, not the threads', decides."""
    for number in range(50):
        (tmp_path / f"{number:02}").write_text(str(number))
    whole = content.fingerprint(tree.scan(tmp_path))
    monkeypatch.setattr(content, "BATCH", 7)

    assert content.fingerprint(tree.scan(tmp_path)) == whole


def test_what_can_not_be_read_is_no_fingerprint(tmp_path):
    """A wrong one would be worse than none."""
    (tmp_path / "x").write_text("x")
    found = tree.scan(tmp_path)
    (tmp_path / "x").unlink()

    with pytest.raises(FileNotFoundError):
        content.fingerprint(found)
