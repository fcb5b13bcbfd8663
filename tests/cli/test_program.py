"""The command line: what Invoke makes of words, and what is extended there."""

import subprocess
import sys
from pathlib import Path

import pytest
from invoke.parser import Context
from rich.table import Table
from rich.text import Text

from samerun.cli import program, training
from samerun.cli.show.console import console
from samerun.cli.typed import as_typed

TRAIN = Context(name="train", args=training.train.get_arguments()).flags
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


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (("train", "--help"), "--gpus=STRING"),
        (("train", "-h"), "--gpus=STRING"),
        (("train", "digits", "--help"), "--gpus=STRING"),
        (("--help", "train"), "--gpus=STRING"),
        (("sync", "--help"), "--all"),
        (("show", "-h"), "--json"),
        (("reproduce", "--help"), "--tolerance"),
        (("logs", "x", "--help"), "--follow"),
    ],
)
def test_help_is_help_wherever_it_stands(words, option):
    """Also where a recipe's name or a run could stand."""
    done = run(*words)

    assert done.returncode == 0
    assert option in done.stdout


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("train digits --epochs 3", "invoke train digits -- --epochs 3"),
        ("train --epochs=3", "invoke train -- --epochs=3"),
        (
            "train x.py --gpus 0 --epochs 3 --fast --seed 1 --lr 0.1",
            "invoke train x.py --gpus 0 --fast --seed 1 -- --epochs 3 --lr 0.1",
        ),
        ("train digits -- --epochs 3", ""),
        ("train -e 3", ""),
    ],
)
def test_a_forgotten_pair_of_dashes_is_put_where_it_belongs(words, line):
    """The command's own options stay before it, with their values."""
    words = ["invoke", *words.split()]
    unknown = "3" if "-e" in words else "--epochs"

    assert program.with_dashes(words, unknown, TRAIN) == line


def test_the_line_with_the_dashes_is_in_the_error():
    """So that it can be copied."""
    assert "`invoke train digits -- --epochs 3`." in run("train", "digits", "--epochs", "3").stderr


def test_tables_for_a_pipe_end_with_their_text(capsys):
    """No blanks up to a width that a pipe does not have, no colors, nothing wrapped."""
    table = Table(box=None, pad_edge=False)
    for name in ("name", "digest"):
        table.add_column(name)
    table.add_row(Text("image", style="red"), "a" * 120)
    table.add_row("no", "b")

    console().print(table)

    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines] == [
        ["name", "digest"],
        ["image", "a" * 120],
        ["no", "b"],
    ]
    assert [line for line in lines if line != line.rstrip()] == []


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


@pytest.mark.parametrize(
    ("text", "typed"),
    [
        ("again   invoke train digits --seed 42", "again   samerun train digits --seed 42"),
        ("run `invoke sync` first", "run `samerun sync` first"),
        ("see `invoke --list`", "see `samerun --list`"),
        ("its script can invoke sync by itself", "its script can invoke sync by itself"),
    ],
)
def test_commands_in_messages_are_those_of_the_program(monkeypatch, text, typed):
    """Whoever types samerun may have no clone in which `invoke` works."""
    monkeypatch.setattr(sys, "argv", ["/usr/local/bin/samerun", "train"])
    assert as_typed(text) == typed
    monkeypatch.setattr(sys, "argv", ["/usr/local/bin/invoke", "train"])
    assert as_typed(text) == text
