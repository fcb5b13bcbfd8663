"""What a data folder holds: links within it, out of it, without end, and what is no file."""

import os
import socket
from pathlib import Path

import pytest

from samerun.core import content, tree


@pytest.fixture
def folder(tmp_path):
    """A data folder, with files beside it that links may lead to."""
    for path in ("data/sub/a.txt", "data/b.txt", "store/c.txt", "store/deep/d.txt"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(path)
    return tmp_path / "data"


def names(folder, **options):
    found = tree.scan(folder, **options)
    return content.names(folder, found.files)


@pytest.mark.parametrize(
    ("parts", "lead", "end"),
    [
        ((), "b.txt", ("b.txt",)),
        (("sub",), "../b.txt", ("b.txt",)),
        (("sub",), ".//./a.txt", ("sub", "a.txt")),
        ((), "sub/gone/../a.txt", ("sub", "a.txt")),
        ((), "to-sub/../b.txt", ("b.txt",)),
        ((), "/b.txt", None),
        ((), "../data/b.txt", None),
        ((), "sub/../../data", None),
        ((), "to-out/c.txt", None),
        ((), "by-name/b.txt", None),
        ((), "loop", ("loop",)),
    ],
)
def test_a_link_leaves_the_folder_if_any_step_of_it_does(folder, parts, lead, end):
    """Also if it comes back by the folder's name, which is /data in the container."""
    for name, target in (
        ("to-sub", "sub"),
        ("to-out", str(folder.parent / "store")),
        ("by-name", "../data"),
        ("loop", "loop"),
    ):
        (folder / name).symlink_to(target)

    assert tree.resolve(str(folder), parts, lead) == end


def test_a_link_to_a_folder_within_is_known_by_its_target(folder):
    """Its files are not counted twice, and another target is another fingerprint."""
    plain = content.fingerprint(tree.scan(folder))
    (folder / "train").symlink_to("sub")
    (folder / "sub2").mkdir()
    linked = content.fingerprint(tree.scan(folder))
    (folder / "train").unlink()
    (folder / "train").symlink_to("sub2")

    assert names(folder) == ["b.txt", "sub/a.txt"]
    assert len({plain, linked, content.fingerprint(tree.scan(folder))}) == 3


def test_a_followed_folder_has_the_fingerprint_of_its_copy(folder, tmp_path):
    """So the data may be copied to another machine without the links."""
    (folder / "more").symlink_to(folder.parent / "store")
    copy = tmp_path / "copy"
    os.system(f"cp -rL {folder} {copy}")

    assert names(folder) == ["b.txt", "more/c.txt", "more/deep/d.txt", "sub/a.txt"]
    assert content.fingerprint(tree.scan(folder)) == content.fingerprint(tree.scan(copy))


def test_a_link_out_is_listed_with_its_path_in_the_container(folder):
    """Absolute as it is, relative from where the folder is there, also behind another link."""
    (folder / "absolute").symlink_to(folder.parent / "store" / "deep")
    (folder / "sub" / "relative").symlink_to("../../store/c.txt")
    (folder.parent / "store" / "deep" / "further").symlink_to("../c.txt")

    leaving = {
        str(link.path.relative_to(folder)): link.inside
        for link in tree.scan(folder, "/data/photos").leaving
    }

    store = folder.parent / "store"
    assert leaving == {
        "absolute": f"{store}/deep",
        "absolute/further": f"{store}/c.txt",
        "sub/relative": "/data/store/c.txt",
    }
    assert tree.scan(folder, "/data").leaving[-1].inside == "/store/c.txt"


def test_links_without_end_are_not_followed_for_ever(folder):
    """To itself, to each other, to a folder above: within, and by way of one outside."""
    (folder / "self").symlink_to("self")
    (folder / "sub" / "up").symlink_to("..")
    assert names(folder) == ["b.txt", "sub/a.txt"]
    (folder / "above").symlink_to(folder.parent)

    found = tree.scan(folder)

    assert [path.relative_to(folder) for path in found.loops] == [Path("above/data")]


def test_what_is_not_followed_is_not_listed_either(folder):
    """Behind a link to / would be everything."""
    (folder / "all").symlink_to("/")
    (folder / "passwords").symlink_to("/etc/passwd")
    (folder / "more").symlink_to(folder.parent / "store")

    assert names(folder, follow=False) == ["b.txt", "sub/a.txt"]
    assert "all/etc/passwd" not in names(folder)
    assert "passwords" not in names(folder)


def test_pipes_and_sockets_are_told_and_not_opened(folder, monkeypatch):
    """Opening a pipe would wait for ever."""
    os.mkfifo(folder / "pipe")
    (folder / "to-pipe").symlink_to("pipe")
    monkeypatch.chdir(folder)  # A socket's path is short.
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("sock")

        found = tree.scan(folder)

    assert [path.name for path in found.special] == ["pipe", "sock", "to-pipe"]
    assert content.names(folder, found.files) == ["b.txt", "sub/a.txt"]


def test_a_file_that_became_a_pipe_is_an_error(folder):
    """Between the listing and the reading."""
    os.mkfifo(folder / "pipe")

    with pytest.raises(OSError, match="plain file"):
        content.hash_file(folder / "pipe")


def test_a_pointer_of_git_lfs_is_known_by_its_first_line(folder):
    """Not a text that speaks of one."""
    pointer = content.POINTER + b"oid sha256:" + b"a" * 64 + b"\nsize 12345\n"
    (folder / "p").write_bytes(pointer)
    (folder / "q").write_bytes(b"see " + pointer)

    assert (content.is_pointer(folder / "p"), content.is_pointer(folder / "q")) == (True, False)
