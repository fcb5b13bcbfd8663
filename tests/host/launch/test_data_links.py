"""`--follow-links`: what is mounted so that links out of a data folder lead on in the container."""

import pytest

from samerun.core.errors import DataError
from samerun.core.record import Mount
from samerun.host.launch import data, data_links


@pytest.fixture
def folder(tmp_path):
    """A data folder beside a store."""
    for path in ("data/a.txt", "store/b.txt", "store/deep/c.txt", "other/d.txt"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(path)
    return tmp_path / "data"


def listed(folder, name="", *, follow=True):
    return data.list_files(data.Folder(path=folder, name=name, follow_links=follow))


def made(folder, name=""):
    return {mount.target: mount.source for mount in listed(folder, name).mounts}


def test_links_out_are_refused_by_name_with_what_to_do(folder):
    """All of them at once, the first five by name."""
    for number in range(7):
        (folder / f"link{number}").symlink_to("/mnt/photos")

    with pytest.raises(DataError, match=r"link0 -> /mnt/photos.* and 2 more\.") as caught:
        listed(folder, follow=False)

    assert "--follow-links" in caught.value.remedy


def test_targets_are_mounted_where_the_links_lead_in_the_container(folder):
    """The folder itself first; files and folders, absolute and relative."""
    store = folder.parent / "store"
    (folder / "deep").symlink_to(store / "deep")
    (folder / "b").symlink_to("../store/b.txt")

    assert made(folder) == {
        "/data": str(folder),
        str(store / "deep"): str(store / "deep"),
        "/store/b.txt": str(store / "b.txt"),
    }


def test_a_link_to_another_data_folder_of_the_run_needs_no_mount(folder):
    """If it has the same name in the container."""
    (folder / "b").symlink_to("../store/b.txt")

    def look(name):
        paths = ((folder, "photos"), (folder.parent / "store", name))
        return data.look(data.Folder(path=p, name=n, follow_links=True) for p, n in paths)

    found = look("store")

    assert [mount.target for one in found for mount in one.mounts] == [
        "/data/photos",
        "/data/store",
    ]
    (more,) = [mount for one in look("labels") for mount in one.mounts if "b.txt" in mount.target]
    assert more.target == "/data/store/b.txt"
    (folder / "b").unlink()
    (folder / "b").symlink_to("../other/d.txt")
    assert [m.target for one in look("x") for m in one.mounts][1] == "/data/other/d.txt"


def test_one_mount_serves_the_links_into_it(folder):
    """Docker would mount twice, and refuse the same place."""
    store = folder.parent / "store"
    for name, target in (("x", store), ("y", store / "deep"), ("z", store), ("c", store / "b.txt")):
        (folder / name).symlink_to(target)

    assert list(made(folder)) == ["/data", str(store)]


@pytest.mark.parametrize(
    ("lead", "words"),
    [
        ("/nowhere/at/all", "leads nowhere"),
        ("/etc/passwd", "system folder"),
        ("/etc", "system folder"),
        ("/proc/self/environ", "system folder"),
        ("/usr/bin", "would hide /usr/bin"),
    ],
)
def test_what_must_not_be_mounted_is_refused(folder, lead, words):
    """The image's own folders, the machine's, and what is not there."""
    (folder / "link").symlink_to(lead)

    with pytest.raises(DataError, match=words):
        listed(folder)


def test_a_way_back_by_the_folders_name_needs_a_mount_only_if_the_name_is_another_one(folder):
    """In the container the folder is called data, or by its name of --data."""
    (folder / "again").symlink_to("../data/a.txt")
    assert list(made(folder)) == ["/data"]
    assert made(folder, "photos")["/data/data/a.txt"] == str(folder / "a.txt")
    assert list(made(folder, "data")) == ["/data/data"]


def test_too_many_links_are_not_mounted(folder, monkeypatch):
    """A store of a hundred thousand files is given as a folder."""
    monkeypatch.setattr(data_links, "MOST", 1)
    (folder / "x").symlink_to(folder.parent / "store")
    (folder / "y").symlink_to(folder.parent / "other")

    with pytest.raises(DataError, match="2 links leave"):
        made(folder)


def test_two_links_must_not_lead_to_one_place_in_the_container():
    """There, everything above /data is /."""
    two = [Mount(source=source, target="/store") for source in ("/a/store", "/b/store")]

    with pytest.raises(DataError, match="/a/store and to /b/store"):
        data_links.refuse_clashes(two)


def test_links_without_end_are_refused_by_name(folder):
    """The container would see them too."""
    (folder / "above").symlink_to(folder.parent)

    with pytest.raises(DataError, match="above/data is reached by a link in it"):
        listed(folder)


def test_nothing_is_mounted_without_the_option(folder):
    """Links within the folder need nothing."""
    (folder / "b.txt").symlink_to("a.txt")

    assert listed(folder, follow=False).mounts == (Mount(source=str(folder), target="/data"),)
