"""What can't be printed: the exit code is exact, and there is no traceback."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(words, out, error=subprocess.PIPE):
    line = [sys.executable, "-m", "invoke", *words.split()]
    return subprocess.run(line, cwd=ROOT, stdout=out, stderr=error, text=True, check=False)


@pytest.mark.parametrize("words", ["--list", "--help train", "runs", "recipes"])
def test_full_disk_behind_the_output_has_its_code(words):
    with open("/dev/full", "w") as full:
        done = run(words, full)

    assert done.returncode == 73
    assert "Standard output can't be written to: No space left on device." in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", ["--list", "recipes"])
def test_closed_pipe_is_the_end_without_a_word(words):
    line = f"{sys.executable} -m invoke {words}"
    reader = "exec 3<&0; exec 0<&-; exec 3<&-; sleep 0.1"
    script = f"set -o pipefail; {line} | ({reader})"
    done = subprocess.run(
        ["bash", "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stderr) == (141, "")


def test_full_standard_error_changes_no_exit_code():
    with open("/dev/full", "w") as full:
        done = run("train nosuchrecipe", subprocess.PIPE, full)
    assert done.returncode == 64


def test_closed_standard_output_is_no_traceback():
    line = f"{sys.executable} -m invoke recipes >&-"
    done = subprocess.run(
        ["bash", "-c", line], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", ["recipes --json", "recipes x"])
def test_command_without_options_refuses_one_with_the_code_of_that(words):
    done = run(words, subprocess.PIPE)
    assert (done.returncode, "Unknown option or argument" in done.stderr) == (64, True)
