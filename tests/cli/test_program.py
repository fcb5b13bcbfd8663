"""The command line: what Invoke makes of words, and what is extended there."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(*words):
    command = [sys.executable, "-m", "invoke", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "words", [("train", "--procs", "two"), ("cloud", "k8s", "--shm-size", "1g", "--nodes", "2x")]
)
def test_a_word_for_a_number_is_an_error_in_two_lines(words):
    """With the option and what was typed, and no traceback of Invoke's."""
    done = run(*words)

    assert done.returncode == 64
    assert done.stderr.splitlines() == [
        f"UsageError: Invalid value for {words[-2]}: {words[-1]!r}.",
        "Use a whole number, e.g. 2.",
    ]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("trian",), "'trian'"),
        (("train", "--epochs", "3"), "'--epochs'"),
        (("train", "digits", "--epochs", "3"), "'--epochs'"),
        (("show",), "required positional arguments: 'run'"),
        (("train", "--data", ""), "--data is empty"),
        (("train", ""), "TARGET is empty"),
        (("build", "--cuda", "14"), "Use one of 13, 12, none"),
    ],
)
def test_what_is_typed_wrong_ends_with_64_and_a_remedy(words, told):
    """1 is the code of a training that failed by itself."""
    done = run(*words)

    assert done.returncode == 64
    assert told in done.stderr
    assert len(done.stderr.splitlines()) == 2
    assert done.stdout == ""


@pytest.mark.parametrize("words", [("train", "--help"), ("train", "-h"), ("--help", "train")])
def test_help_is_help_wherever_it_stands(words):
    """Also where a recipe's name could stand."""
    done = run(*words)

    assert done.returncode == 0
    assert "--gpus=STRING" in done.stdout


def test_a_target_may_be_left_out():
    """The canary of the extended parser: `invoke train --dry` means `invoke train digits`."""
    assert " digits" in run("train", "--dry", "--gpus", "0").stdout


def test_the_command_samerun_offers_the_same_verbs():
    """It works on the checkout that it is installed from, in any folder."""
    lists = [
        subprocess.run(
            [sys.executable, "-m", *module, "--list"], cwd=cwd, capture_output=True, check=True
        )
        for module, cwd in ((["invoke"], ROOT), (["samerun.cli.main"], "/"))
    ]

    ours, theirs = (done.stdout.decode().split("\n\n", 1)[1].split("\n\n")[0] for done in lists)
    assert ours.split() == theirs.split()
