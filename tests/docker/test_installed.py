"""An installed samerun, from its wheel, trains in the folder of any project."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from driving import ROOT, environment

from samerun.core import record

TIME_S = 600


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    """Install the wheel to a new environment, which borrows what it needs from this one."""
    folder = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    wheel = [*pip, "wheel", "--no-deps", "--wheel-dir", folder / "wheels", ROOT]
    subprocess.run([*map(str, wheel)], check=True)
    subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
    (file,) = (folder / "wheels").glob("samerun-*.whl")
    install = [folder / "venv/bin/python", "-m", "pip", "install", "--quiet", "--no-deps", file]
    subprocess.run([*map(str, install)], check=True)
    (site,) = (folder / "venv/lib").glob("python*/site-packages")
    (site / "others.pth").write_text(sysconfig.get_path("purelib"))
    return folder / "venv/bin/samerun"


def run(command, folder, *words):
    """Run the command as a user who has no checkout."""
    values = environment(XDG_CACHE_HOME=str(command.parents[2] / "cache"))
    values.pop("PYTHONPATH", None)
    return subprocess.run(
        [str(command), *map(str, words)],
        cwd=folder, env=values, capture_output=True, text=True, check=False, timeout=TIME_S,
    )  # fmt: skip


def test_a_new_project_trains_from_the_wheel(image, command, tmp_path):
    """With the image of the clone, whose inputs are the same; nothing is written beside runs/."""
    assert run(command, tmp_path, "new", "flowers").returncode == 0
    project = tmp_path / "flowers"
    before = {path.name for path in project.iterdir()}
    options = ("--gpus", "0", "--name", "installed", "--", "--epochs", "1")
    done = run(command, project, "train", "train.py", *options)

    assert done.returncode == 0, done.stdout + done.stderr
    found = record.read(project / "runs" / "installed")
    assert found.image.inputs is not None
    assert found.launch.environment["WANDB_PROJECT"] == "flowers"
    assert {path.name for path in project.iterdir()} - before == {"runs"}
    (checkout,) = Path(command.parents[2] / "cache" / "samerun" / "installed").iterdir()
    assert (checkout / "Dockerfile").read_bytes() == (ROOT / "Dockerfile").read_bytes()


def test_a_tasks_file_of_two_lines_offers_the_commands(image, command, tmp_path):
    (tmp_path / "tasks.py").write_text("from samerun.tasks import namespace\n")
    python = command.with_name("python")
    done = subprocess.run(
        [str(python), "-m", "invoke", "train", "--dry", "--gpus", "0"],
        cwd=tmp_path, env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "digits" in done.stdout
