"""Users' own scripts, and what the container lets them do."""

import json
import shutil

import pytest
from driving import HERE, invoke, read_wandb

from samerun.core import record


def seen(done):
    """Return what each process of the probe printed."""
    lines = [line for line in done.stdout.splitlines() if "SEEN " in line]
    assert lines, done.stderr
    return [json.loads(line.split("SEEN ", 1)[1]) for line in lines]


@pytest.fixture
def script(tmp_path):
    """A copy of the probe's folder, with a file that is ignored."""
    return copy(tmp_path / "script")


def copy(folder):
    shutil.copytree(HERE / "script", folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "data.bin").write_text("not code")
    (folder / ".gitignore").write_text("*.bin\n")
    return folder / "probe.py"


ARGUMENTS = ("--text", 'it\'s a "b"  c', "--wandb", "own", "tag")


@pytest.fixture(scope="module")
def pinned(image, tmp_path_factory):
    """A run of the script by itself: what it printed, and its folder."""
    place = tmp_path_factory.mktemp("pinned")
    options = ["--gpus", "0", "--output", place / "runs", "--name", "script-a"]
    done = invoke("train", copy(place / "script"), *options, "--", *ARGUMENTS)
    assert done.returncode == 0, done.stderr
    return done, place / "runs" / "script-a"


def test_script_is_pinned_by_the_digest(pinned, image):
    """Its folder is a layer: own tags stay, the digest is the derived image's, arguments intact."""
    done, folder = pinned
    run = record.read(folder)
    (found,) = seen(done)

    assert ["/code/probe.py", *ARGUMENTS] == found["argv"]
    assert found["helper"] == "helped"
    assert run.code.where == "image"
    assert run.image.digest != image["digest"]
    (logged,) = read_wandb(image, folder)
    assert ["own", "tag", run.image.digest] == logged["tags"]
    assert run.image.reference == logged["docker"]


def test_changed_code_is_another_digest(train, pinned, script):
    """And unchanged code is the same one, whatever its file times."""
    (script.parent / "lib" / "helper.py").touch()
    _, same = train(script, "--gpus", "0", name="script-b")
    (script.parent / "lib" / "helper.py").write_text('VALUE = "changed"')
    done, other = train(script, "--gpus", "0", name="script-c")

    first = record.read(pinned[1])
    assert first.image.digest == same.image.digest
    assert first.image.digest != other.image.digest
    assert seen(done)[0]["helper"] == "changed"


def test_mounted_code_is_recorded_as_such(train, image, script):
    """--mount-code runs in the plain image, and the record says `mounted`."""
    done, run = train(script, "--gpus", "0", "--mount-code")

    assert run.code.where == "mounted"
    assert image["digest"] == run.image.digest
    assert seen(done)[0]["write_code"] == "OSError"


@pytest.mark.parametrize("procs", ["1", "2"])
def test_exit_code_is_the_scripts(train, script, procs):
    """One process or several, whichever rank fails."""
    options = ["--exit", "7", "--only-rank", "1" if procs == "2" else "0"]

    done, run = train(script, "--gpus", "0", "--procs", procs, "--", *options)

    assert (done.returncode, run.outcome.exit_code) == (7, 7)
    assert run.outcome.state == "failed"


def test_every_process_that_starts_a_run_is_signed(train, image, script, tmp_path):
    """Two ranks, two runs, both with the digest."""
    _, run = train(script, "--gpus", "0", "--procs", "2", "--", "--wandb", "mine")

    runs = read_wandb(image, tmp_path / "runs" / "run-script")
    assert [["mine", run.image.digest]] * 2 == [entry["tags"] for entry in runs]
    assert {0, 1} == {entry.rank for entry in run.wandb}
