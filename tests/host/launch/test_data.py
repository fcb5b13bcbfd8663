import dataclasses
import os
from pathlib import Path

import pytest

from samerun.core import content, tree
from samerun.core.errors import DataError, UsageError
from samerun.host.launch import data, data_cache


def listed(folder, **options):
    """Return the content of *folder*, as `train --data` sees it."""
    return data.list_files(data.Folder(path=folder, **options)).tree


def taken(folder, **options):
    """Return the entry of the record for *folder*."""
    return data.fingerprint_folder(data.list_files(data.Folder(path=folder, **options))).entry


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.txt").write_text("one")
    (tmp_path / "2.txt").write_text("two")
    return tmp_path


def test_fingerprint_follows_content_and_names(folder):
    """The same content gives the same fingerprint; another content or name another one."""
    first = taken(folder)
    assert (first.files, first.size_bytes) == (2, 6)
    assert first == taken(folder)

    (folder / "2.txt").write_text("owt")
    changed = taken(folder)
    (folder / "2.txt").rename(folder / "3.txt")

    assert len({first.fingerprint, changed.fingerprint, taken(folder).fingerprint}) == 3


@pytest.mark.parametrize(("name", "words"), [("no", "does not exist"), ("2.txt", "not a folder")])
def test_missing_data_is_named(folder, name, words):
    """A path that is no folder is refused before anything starts."""
    with pytest.raises(DataError, match=words):
        taken(folder / name)


def test_empty_data_is_refused(tmp_path):
    """An unmounted disk is an empty folder."""
    (tmp_path / "sub").mkdir()

    with pytest.raises(DataError, match="no file"):
        taken(tmp_path)


@pytest.mark.parametrize("folder", ["/", "/etc", "/proc", "/proc/self", "/dev", "/sys", "/run"])
def test_folders_of_the_system_are_no_data(folder):
    """Passwords, devices, the engine's socket."""
    with pytest.raises(DataError, match="system"):
        listed(Path(folder))


@pytest.mark.parametrize(
    ("path", "refused"),
    [
        ("/dev/shm/pets", False),
        ("/dev/shm/pets/train", False),
        ("/run/media/me/disk", False),
        ("/dev/shm", True),
        ("/dev/shm/samerun-ab12", True),
        ("/dev/shm/samerun-ab12/x", True),
        ("/run/media/me", True),
        ("/run/user/0", True),
    ],
)
def test_data_in_memory_and_on_a_users_disk_are_no_system(path, refused):
    """But for the folders that hold a key while it is lent."""
    assert tree.is_system(path) == refused


def test_link_to_a_folder_of_the_system_is_seen_through(tmp_path):
    """What counts is where it leads."""
    (tmp_path / "data").symlink_to("/etc")

    with pytest.raises(DataError, match="system"):
        listed(tmp_path / "data")


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
    first = taken(folder)
    assert sorted(reads) == ["1.txt", "2.txt"]
    assert taken(folder) == first
    assert len(reads) == 2


def test_changed_file_is_read_again_though_size_and_time_are_the_same(folder, reads):
    """Whoever turns the time of modification back does not deceive the fingerprint."""
    first = taken(folder)
    times = (folder / "2.txt").stat()
    (folder / "2.txt").write_text("owt")
    os.utime(folder / "2.txt", ns=(times.st_atime_ns, times.st_mtime_ns))

    assert taken(folder).fingerprint != first.fingerprint
    assert reads[2:] == ["2.txt"]


def test_young_file_is_not_kept(folder, reads, monkeypatch):
    """It could change again within the same tick of the file system's clock."""
    monkeypatch.setattr(data_cache, "YOUNG_NS", 60 * 10**9)
    taken(folder)
    taken(folder)

    assert len(reads) == 4


def test_damaged_cache_costs_reading_only(folder, reads):
    """Another content than JSON in the cache is no error."""
    first = taken(folder)
    data_cache.load(folder).path.write_text("[1, {")

    assert taken(folder) == first
    assert len(reads) == 4


@pytest.mark.parametrize(
    "lead", ["/etc/hostname", "/gone.txt", "../outside.txt", "../data/sub/a.txt", "sub/../../data"]
)
def test_a_link_that_the_run_would_not_see_so_is_refused_by_name(tmp_path, lead):
    """The host follows it, the container can't: the fingerprint would be of other data."""
    folder = tmp_path / "data"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "a.txt").write_text("a")
    (tmp_path / "outside.txt").write_text("o")
    (folder / "link").symlink_to(lead)

    with pytest.raises(DataError, match="link"):
        listed(folder)


def test_a_link_within_the_folder_is_the_file(tmp_path):
    """Both sides see the same."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.txt").write_text("a")
    (tmp_path / "sub" / "b.txt").symlink_to("a.txt")
    (tmp_path / "c.txt").symlink_to("sub/a.txt")

    assert len(listed(tmp_path).files) == 3


def test_several_folders_have_a_fingerprint_and_a_place_each(tmp_path):
    """By their names; a folder without one is /data."""
    for name in ("photos", "labels"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a").write_text(name)

    texts = [f"{name}={tmp_path / name}" for name in ("photos", "labels")]
    found = [data.fingerprint_folder(one) for one in data.look(data.parse(texts))]

    assert [one.entry.target for one in found] == ["/data/photos", "/data/labels"]
    assert len({one.entry.fingerprint for one in found}) == 2
    assert [mount.target for mount in data.all_mounts(found)] == ["/data/photos", "/data/labels"]
    assert data.parse([str(tmp_path)])[0].target == "/data"


def test_a_folder_with_an_equals_sign_in_its_name_is_still_reached(tmp_path, monkeypatch):
    """The error says how."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a=b").mkdir()
    (tmp_path / "a=b" / "x").write_text("x")

    with pytest.raises(DataError) as caught:
        data.look(data.parse(["a=b"]))

    assert "./a=b" in caught.value.remedy
    assert data.look(data.parse(["./a=b"]))[0].folder.target == "/data"


def test_data_that_moved_is_given_by_the_name_it_had(run):
    """The only folder of a run needs none; a name that the run does not know is refused."""
    photos = dataclasses.replace(run.data[0], target="/data/photos")
    labels = dataclasses.replace(run.data[0], target="/data/labels")

    assert data.moved((run.data[0],), ["/x"]) == {"/data": Path("/x")}
    assert data.moved((photos,), ["/x"]) == {"/data/photos": Path("/x")}
    assert data.moved((photos, labels), ["labels=/x"]) == {"/data/labels": Path("/x")}
    for texts in (["other=/x"], ["/x"]):
        with pytest.raises(UsageError, match=r"/data/photos, /data/labels"):
            data.moved((photos, labels), texts)


def test_pointers_of_git_lfs_are_refused_by_name_whether_read_before_or_not(folder, reads):
    """With the command that fetches the files."""
    pointer = content.POINTER + b"oid sha256:" + b"a" * 64 + b"\nsize 9\n"
    for name in ("p.jpg", "q.jpg"):
        (folder / name).write_bytes(pointer)

    for _ in range(2):
        with pytest.raises(DataError, match=r"p\.jpg, .*q\.jpg: a pointer of Git LFS") as caught:
            taken(folder)
        assert "lfs pull" in caught.value.remedy


def test_pipes_in_a_data_folder_are_refused(folder):
    """What comes out of one is in no fingerprint."""
    os.mkfifo(folder / "pipe")

    with pytest.raises(DataError, match="pipe is a pipe"):
        listed(folder)
