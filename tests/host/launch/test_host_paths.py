"""Paths of this machine in arguments and scripts are named before the run starts."""

import pytest

from samerun.host.launch import data, host_paths


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with data and others; /tmp, in which it may lie, counts as a folder of users."""
    monkeypatch.setattr(host_paths, "COMMON", ("/usr",))
    for path in ("photos/train/a.jpg", "other/b.csv"):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).touch()
    return tmp_path


def notes(place, *arguments, script=None):
    folders = data.look(data.parse([f"photos={place / 'photos'}"]))
    present = [data.fingerprint_folder(one) for one in folders]
    return list(host_paths.notes(arguments, script, present))


def test_an_argument_that_is_a_path_of_the_data_has_another_one_inside(place):
    """With its option, and from the home folder."""
    (place / "link").symlink_to(place / "photos")
    for argument in (
        place / "photos" / "train",
        f"--path={place}/photos/train",
        place / "link/train",
    ):
        (note,) = notes(place, str(argument))
        assert str(argument) in note
        assert note.endswith("in the container it is /data/photos/train.")


def test_what_only_this_machine_has_is_named(place):
    """And nothing else: numbers, names, relative paths, the image's folders, new files."""
    (note,) = notes(place, str(place / "other"))
    assert "the container does not have" in note
    assert notes(place, "3", "a/b", "/", "/usr/bin", "/data/photos", "/no/such/x", "-p", "") == []


def test_the_defaults_of_a_script_are_named_once(place):
    """Its texts, wherever they are; a script that can't be parsed is the container's affair."""
    script = place / "train.py"
    script.write_text(f"path = '{place}/photos'\nf(path='{place}/photos')\nx = 'photos' + '/'\n")
    (note,) = notes(place, script=script)
    script.write_text("def (")

    assert note.startswith(f"{place}/photos in {script} is a path of this machine")
    assert notes(place, script=script) == []
