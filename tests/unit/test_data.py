import pytest

from samerun.errors import DataError
from samerun.host import data


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.txt").write_text("one")
    (tmp_path / "2.txt").write_text("two")
    return tmp_path


def test_fingerprint_follows_content_and_names(folder):
    """The same content gives the same fingerprint; another content or name another one."""
    first = data.describe(folder)
    assert (first.files, first.size_bytes) == (2, 6)
    assert first == data.describe(folder)

    (folder / "2.txt").write_text("owt")
    changed = data.describe(folder)
    (folder / "2.txt").rename(folder / "3.txt")

    assert len({first.fingerprint, changed.fingerprint, data.describe(folder).fingerprint}) == 3


@pytest.mark.parametrize(("name", "words"), [("no", "does not exist"), ("2.txt", "not a folder")])
def test_missing_data_is_named(folder, name, words):
    """A path that is no folder is refused before anything starts."""
    with pytest.raises(DataError, match=words):
        data.describe(folder / name)


def test_empty_data_is_refused(tmp_path):
    """An unmounted disk is an empty folder."""
    (tmp_path / "sub").mkdir()

    with pytest.raises(DataError, match="no file"):
        data.describe(tmp_path)
