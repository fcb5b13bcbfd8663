"""A script reads its project by relative paths as on the host, and writes to the run's folder."""

import os
import subprocess
import sys

import pytest

BEGIN = """
import os
from samerun.core import contract
contract.CODE = os.environ["PROJECT"]
from samerun.train.hooks import relative_reads
relative_reads.install()
import glob, io, shutil, sys
from pathlib import Path
"""


@pytest.fixture
def run(tmp_path):
    """Return a function that runs code in a run's folder, where the user was in `sub`."""
    project, folder = tmp_path / "code", tmp_path / "output"
    for name in ("top.txt", "sub/labels.csv", "sub/images/a/1.jpg", "sub/images/b/2.jpg"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(name)
    (project / "sub" / "run.json").write_text("of the project")
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")

    def execute(code):
        environment = {**os.environ, "PROJECT": str(project), "SAMERUN_FAST": "1"}
        environment |= {"SAMERUN_RECORD": str(folder / "run.json")}
        environment |= {"SAMERUN_READS_FROM": str(project / "sub")}
        done = subprocess.run(
            [sys.executable, "-c", BEGIN + code],
            cwd=folder, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    execute.folder, execute.project = folder, project
    return execute


READS = """
print(open("labels.csv").read())
print(Path("labels.csv").read_text())
print(io.open(os.path.abspath("labels.csv")).read())
print((Path.cwd() / "labels.csv").read_text())
print(os.read(os.open("labels.csv", os.O_RDONLY), 99).decode())
print(open("../top.txt").read())
print(open(b"labels.csv").read())
"""


def test_a_file_is_found_however_it_is_opened(run):
    assert run(READS) == ["sub/labels.csv"] * 5 + ["top.txt", "sub/labels.csv"]


def test_questions_about_a_file_have_the_answers_of_the_host(run):
    code = """
print(os.path.exists("labels.csv"), Path("images").is_dir(), os.path.isfile("images/a/1.jpg"),
      os.access("labels.csv", os.R_OK), os.path.getsize("labels.csv"), os.path.exists("no.csv"),
      os.access("no.csv", os.R_OK), os.path.lexists("labels.csv"))
"""
    assert run(code) == ["True", "True", "True", "True", "14", "False", "False", "True"]


def test_listings_show_both_layers_and_the_files_of_the_run_only_once(run):
    code = """
open("labels.csv", "w").write("new")
print(sorted(glob.glob("*.[ct][sx][vt]")), sorted(p.name for p in Path(".").iterdir()))
print(open("labels.csv").read())
print(sorted(os.path.join(at, name) for at, _, names in os.walk("images") for name in names))
print(sorted(map(str, Path("images").rglob("*.jpg"))))
print([entry.name for entry in os.scandir()])
print([entry.path for entry in os.scandir("images")], [e.path for e in os.scandir(b"images")])
print(list(Path("images/a").iterdir()), [os.fspath(e) for e in os.scandir(Path("images"))])
"""
    text = " ".join(run(code))
    assert text.count("['labels.csv', 'mine.txt']") == 1
    assert text.count("['images', 'labels.csv', 'mine.txt', 'run.json']") == 2
    assert text.count("['images/a/1.jpg', 'images/b/2.jpg']") == 2
    assert "] new [" in text
    assert "['images/a', 'images/b'] [b'images/a', b'images/b']" in text
    assert "[PosixPath('images/a/1.jpg')] ['images/a', 'images/b']" in text


def test_what_is_written_goes_to_the_run_also_into_folders_of_the_project(run):
    code = """
if not os.path.exists("images"):
    os.mkdir("images")
open("images/new.txt", "w").write("1")
open("images/a/deep.txt", "w").write("1")
os.makedirs("images/b/c/d", exist_ok=True)
open("images/b/c/d/x", "a").write("1")
Path("own").mkdir()
shutil.copy2("images/b/2.jpg", "own")
shutil.copytree("images/a", "copied")
"""
    run(code)
    found = {str(path.relative_to(run.folder)) for path in run.folder.rglob("*") if path.is_file()}
    expected = {"images/new.txt", "images/a/deep.txt", "images/b/c/d/x", "own/2.jpg", "mine.txt"}
    expected |= {"copied/1.jpg", "copied/deep.txt"}
    assert found == expected
    assert sorted(path.name for path in run.project.rglob("*.txt")) == ["top.txt"]


def test_what_is_nowhere_is_an_error_as_without_us(run):
    code = """
for call in (open, os.stat, os.listdir, os.scandir, os.mkdir, os.chdir, os.readlink):
    try:
        call("no/such")
    except FileNotFoundError as error:
        print(error.filename, flush=True)
try:
    open("no/such", "w")
except FileNotFoundError as error:
    print(error.filename)
try:
    os.chdir("labels.csv")
except NotADirectoryError:
    print("file")
"""
    assert run(code) == ["no/such"] * 8 + ["file"]


def test_files_of_the_kit_are_those_of_the_run(run):
    """A project may have a file of the same name."""
    code = "print(os.path.exists(os.environ['SAMERUN_RECORD']), os.path.exists('checkpoints'))"
    (run.project / "sub" / "checkpoints").mkdir()
    assert run(code) == ["False", "False"]


def test_nothing_outside_of_the_project_is_read(run):
    (run.project.parent / "secret").write_text("x")
    assert run("print(os.path.exists('../../secret'), os.path.exists('/etc/passwd'))") == [
        "False",
        "True",
    ]


def test_a_changed_folder_is_followed(run):
    code = """
os.chdir("images")
print(open("a/1.jpg").read())
os.chdir("/")
print(os.path.exists("labels.csv"))
"""
    assert run(code) == ["sub/images/a/1.jpg", "False"]


def test_links_numbers_and_named_arguments_work_as_ever(run):
    code = """
os.symlink("labels.csv", "link")
print(os.readlink("link"), os.stat(path="labels.csv").st_size)
print(open(file="labels.csv", mode="r").read(), os.listdir(path="images"))
with open(os.open(path="labels.csv", flags=os.O_RDONLY)) as file:
    print(len(file.read()), os.stat(0) is not None, len(os.listdir(os.open(".", os.O_RDONLY))) > 1)
"""
    assert run(code)[:5] == ["labels.csv", "14", "sub/labels.csv", "['a',", "'b']"]
