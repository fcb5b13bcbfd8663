"""A script that opens its data by the host's path: a message names the path in the container."""

import dataclasses
import os
import subprocess
import sys

import pytest

from samerun.core import record
from samerun.train.report import host_paths

LISTS = """
import os
print([list(os.walk("/home/ada/datasets/pets/images")) for _ in range(2)])
os.listdir(".")
try: os.listdir("/no/such/folder")
except FileNotFoundError: print("as ever")
"""


@pytest.fixture
def data(tmp_path):
    """Two folders of the host, and where the container has them."""
    for path in ("photos/train/a.jpg", "pets/images/b.jpg"):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).touch()
    return (
        ("/mnt/big/photos", str(tmp_path / "photos")),
        ("/home/ada/datasets/pets", str(tmp_path / "pets")),
    )


@pytest.mark.parametrize(
    ("asked", "inside"),
    [
        ("/home/ada/datasets/pets", "pets"),
        ("/home/ada/datasets/pets/images/b.jpg", "pets/images/b.jpg"),
        ("/tmp/home/datasets/pets/images", "pets/images"),
        ("../datasets/pets/images", "pets/images"),
        ("datasets/pets", "pets"),
        ("/kaggle/input/pets/images/b.jpg", "pets/images/b.jpg"),
        ("/mnt/big/photos/train", "photos/train"),
        ("/kaggle/input/pets/gone.csv", None),
        ("/kaggle/input/other", None),
        ("/data/pets/images", None),
    ],
)
def test_the_path_with_most_in_common_is_named(data, tmp_path, monkeypatch, asked, inside):
    """In full, from the home folder, or by the folder's own name; only if it exists there."""
    monkeypatch.setenv("HOME", "/tmp/home")

    text = host_paths.moved(asked, data)

    expected = (
        f"{asked} is not in the container: there, this data is {tmp_path / inside}."
        if (inside)
        else ""
    )
    assert text == expected


@pytest.mark.parametrize(
    ("asked", "mounts", "words"),
    [
        ("/home/ada/else/x.csv", ["/data"], "which has /home/ada/else at /data"),
        ("/srv/x.csv", [], "pass its folder with --data"),
        ("/srv/x.csv", ["/data"], "has your data at /data"),
        ("/data/x.csv", [], "the run has no data"),
        ("/data/x.csv", ["/data/a", "/data/b"], "its data at /data/a, /data/b"),
        ("/data/a/x.csv", ["/data/a"], ""),
        ("/etc/x.conf", [], ""),
        ("/code/x.csv", [], ""),
        ("x.csv", ["/data"], ""),
    ],
)
def test_a_training_that_ended_for_lack_of_a_path_says_what_the_container_has(asked, mounts, words):
    """Nothing about the image's own paths, and relative ones."""
    text = host_paths.hint(asked, [("/home/ada/else", target) for target in mounts])

    assert words in text if words else text == ""


def named(folder, data):
    """Give the run in *folder* the *data*; return the environment of its container."""
    run = record.read(folder)
    entries = [
        record.Data(source=s, target="/data", fingerprint=None, files=1, size_bytes=1)
        for s, _ in data[1:]
    ]
    record.write(folder, dataclasses.replace(run, data=tuple(entries)))
    return {**os.environ, "SAMERUN_RECORD": str(folder / "run.json")}


def test_listing_a_folder_of_the_host_says_it_once_and_does_as_ever(folder, data, monkeypatch):
    """fastai's get_image_files takes a folder that does not exist for an empty one."""
    code = "import samerun.train.hook, samerun.train.report.host_paths as h\n"
    code += f"h._data = lambda: {data!r}\n{LISTS}"

    done = subprocess.run(
        [sys.executable, "-c", code], env=named(folder, data), capture_output=True, text=True,
        check=True, cwd=folder,
    )  # fmt: skip

    assert done.stdout.splitlines() == ["[[], []]", "as ever"]
    assert done.stderr.count("samerun: ") == done.stderr.count("pets/images is not in") == 1


def test_a_failure_ends_with_the_hint(folder, data):
    """After the traceback, with Python's exit code."""
    code = "from samerun.train.report import failures\n"
    code += "with failures.told(): open('/home/ada/datasets/pets/gone.csv')"

    done = subprocess.run(
        [sys.executable, "-c", code], env=named(folder, data), capture_output=True, text=True,
        check=False,
    )  # fmt: skip

    assert done.returncode == 1
    assert "FileNotFoundError" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("samerun: /home/ada/datasets/pets/gone.csv is")
