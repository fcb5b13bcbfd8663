"""What can't be printed: the exit code is exact, and there is no traceback."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from invoke.exceptions import Exit

from samerun.cli.verb import exit_codes

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


ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def verbs():
    """Return the names of all commands, from the command itself."""
    listed = run("--list --list-format=json", subprocess.PIPE).stdout
    return [task["name"] for task in json.loads(listed)["tasks"]]


def test_help_of_every_command_is_printed_in_a_locale_of_ascii():
    failed = {}
    for verb in verbs():
        line = [sys.executable, "-m", "invoke", "--help", verb]
        done = subprocess.run(
            line, cwd=ROOT, capture_output=True, env=os.environ | ASCII, check=False
        )
        if done.returncode or not done.stdout.isascii() or b"Traceback" in done.stderr:
            failed[verb] = done.stderr[-300:]
    assert not failed


@pytest.mark.parametrize("name", ["Ärger", "\udcff\udcfe"], ids=["other letters", "no UTF-8"])
@pytest.mark.parametrize("locale", [ASCII, {"LC_ALL": "C.UTF-8"}], ids=["ASCII", "UTF-8"])
def test_names_that_a_locale_lacks_are_printed_escaped(tmp_path, name, locale):
    (tmp_path / name).mkdir()
    (tmp_path / name / "run.json").write_text("{")
    line = [sys.executable, "-m", "invoke", "runs", "--output", tmp_path]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, env=os.environ | locale, check=False)

    assert done.returncode == 0, done.stderr
    assert b" damaged" in done.stdout
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("act", "told"),
    [
        (lambda: Path("/sys/samerun").write_text("x"), "/sys/samerun can't be written: "),
        (lambda: Path("/dev/full").write_bytes(b"x" * 10**6), "A file can't be written: No space"),
        (lambda: fail(errno.EROFS, "/a\x1b"), "/a\\x1b can't be written: Read-only file system."),
        (lambda: fail(errno.EDQUOT, b"/b\xff"), "/b\udcff can't be written: "),
    ],
)
def test_disk_that_takes_nothing_is_an_error_with_its_code(act, told):
    with pytest.raises(Exit) as raised, exit_codes():
        act()
    assert raised.value.code == 73
    assert f"OutputError: {told}" in raised.value.message


def test_other_errors_of_the_system_are_bugs_with_their_traceback():
    with pytest.raises(FileNotFoundError), exit_codes():
        Path("/nonexistent/x").read_text()


def fail(number, path):
    raise OSError(number, os.strerror(number), path)


def test_save_and_ci_on_a_disk_that_is_not_writable_say_so():
    for words in ("save --file /sys/x.tar", "ci github --file /sys/x"):
        done = run(words, subprocess.PIPE)
        assert done.returncode in (67, 73, 83)
        assert "Traceback" not in done.stderr
