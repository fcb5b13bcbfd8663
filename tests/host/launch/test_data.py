import os
from pathlib import Path

import pytest

from samerun.core.errors import DataError
from samerun.host.launch import data, data_cache


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.txt").write_text("one")
    (tmp_path / "2.txt").write_text("two")
    return tmp_path


def test_fingerprint_follows_content_and_names(folder):
    """The same content gives the same fingerprint; another content or name another one."""
    first = data.fingerprint_folder(folder)
    assert (first.files, first.size_bytes) == (2, 6)
    assert first == data.fingerprint_folder(folder)

    (folder / "2.txt").write_text("owt")
    changed = data.fingerprint_folder(folder)
    (folder / "2.txt").rename(folder / "3.txt")

    assert (
        len({first.fingerprint, changed.fingerprint, data.fingerprint_folder(folder).fingerprint})
        == 3
    )


@pytest.mark.parametrize(("name", "words"), [("no", "does not exist"), ("2.txt", "not a folder")])
def test_missing_data_is_named(folder, name, words):
    """A path that is no folder is refused before anything starts."""
    with pytest.raises(DataError, match=words):
        data.fingerprint_folder(folder / name)


def test_empty_data_is_refused(tmp_path):
    """An unmounted disk is an empty folder."""
    (tmp_path / "sub").mkdir()

    with pytest.raises(DataError, match="no file"):
        data.fingerprint_folder(tmp_path)


@pytest.mark.parametrize("folder", ["/", "/etc", "/proc", "/proc/self", "/dev", "/sys", "/run"])
def test_folders_of_the_system_are_no_data(folder):
    """Passwords, devices, the engine's socket."""
    with pytest.raises(DataError, match="system"):
        data.list_files(Path(folder))


def test_link_to_a_folder_of_the_system_is_seen_through(tmp_path):
    """What counts is where it leads."""
    (tmp_path / "data").symlink_to("/etc")

    with pytest.raises(DataError, match="system"):
        data.list_files(tmp_path / "data")


@pytest.mark.parametrize(
    ("mode", "owner", "readable"),
    [
        (0o600, (65532, 65532), False),
        (0o644, (65532, 65532), True),
        (0o600, (os.getuid(), 1), True),
        (0o040, (65532, os.getgid()), True),
        (0o704, (65532, os.getgid()), False),
    ],
)
def test_root_learns_what_the_run_can_not_read(tmp_path, monkeypatch, mode, owner, readable):
    """Root reads everything, the run's user does not: told before the start."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    file = tmp_path / "x.csv"
    file.touch()
    file.chmod(mode)
    tmp_path.chmod(0o755)

    if readable:
        data.check_readable([file], owner)
    else:
        with pytest.raises(DataError, match="chmod"):
            data.check_readable([file], owner)


@pytest.fixture
def reads(folder, tmp_path_factory, monkeypatch):
    """The names of the files that are read; the cache is a new one, and no file is young."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setattr(data_cache, "YOUNG_NS", -1)
    found, original = [], data._hash

    def read(path):
        found.append(path.name)
        return original(path)

    monkeypatch.setattr(data, "_hash", read)
    return found


def test_file_is_read_once(folder, reads):
    """The second look reads nothing, and comes to the same fingerprint."""
    first = data.fingerprint_folder(folder)
    assert sorted(reads) == ["1.txt", "2.txt"]
    assert data.fingerprint_folder(folder) == first
    assert len(reads) == 2


def test_changed_file_is_read_again_though_size_and_time_are_the_same(folder, reads):
    """Whoever turns the time of modification back does not deceive the fingerprint."""
    first = data.fingerprint_folder(folder)
    times = (folder / "2.txt").stat()
    (folder / "2.txt").write_text("owt")
    os.utime(folder / "2.txt", ns=(times.st_atime_ns, times.st_mtime_ns))

    assert data.fingerprint_folder(folder).fingerprint != first.fingerprint
    assert reads[2:] == ["2.txt"]


def test_young_file_is_not_kept(folder, reads, monkeypatch):
    """It could change again within the same tick of the file system's clock."""
    monkeypatch.setattr(data_cache, "YOUNG_NS", 60 * 10**9)
    data.fingerprint_folder(folder)
    data.fingerprint_folder(folder)

    assert len(reads) == 4


def test_damaged_cache_costs_reading_only(folder, reads):
    """Another content than JSON in the cache is no error."""
    first = data.fingerprint_folder(folder)
    data_cache.load(folder).path.write_text("[1, {")

    assert data.fingerprint_folder(folder) == first
    assert len(reads) == 4


@pytest.mark.parametrize("lead", ["/etc/hostname", "/gone.txt", "../outside.txt", "sub"])
def test_a_link_that_the_run_would_not_see_so_is_refused_by_name(tmp_path, lead):
    """The host follows it, the container can't: the fingerprint would be of other data."""
    folder = tmp_path / "data"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "a.txt").write_text("a")
    (tmp_path / "outside.txt").write_text("o")
    (folder / "link").symlink_to(lead)

    with pytest.raises(DataError, match="link"):
        data.list_files(folder)


def test_a_link_within_the_folder_is_the_file(tmp_path):
    """Both sides see the same."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.txt").write_text("a")
    (tmp_path / "sub" / "b.txt").symlink_to("a.txt")
    (tmp_path / "c.txt").symlink_to("sub/a.txt")

    assert len(data.list_files(tmp_path)) == 3
