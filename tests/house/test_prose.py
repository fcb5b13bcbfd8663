"""The prose linter of the documents: docs/prose.py and the phrases of docs/prose.toml."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def prose():
    """The linter, with its checks registered."""
    spec = importlib.util.spec_from_file_location("prose", ROOT / "docs" / "prose.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.register()
    return module


@pytest.fixture
def refused(prose):
    """The refused phrases that a text has, as Markdown or another kind."""
    return lambda text, suffix=".md": list(prose.lint(text, {"phrases": True}, suffix))


@pytest.mark.parametrize(
    "text",
    [
        "The container was told no image.",
        "It lists the command that mends it.",
        "Nothing falls back in silence.",
        "The image has a name of its own.",
        "'x' is no size.",
        "Fine so far. Who types `invoke` is trusted.",
        "This run can't be made again.",
        "## Again, and on",
        "It goes on from the checkpoint.",
        "The result came out the same.",
        "The base image is not to be had.",
        "Two runs, held against each other.",
        "The kit writes it.",
    ],
)
def test_phrase_is_refused(refused, text):
    """Each phrase of the list is found, once."""
    assert len(refused(text)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "There is no name for it.",
        "Who writes the record? The host does.",
        "A script of your own runs unchanged.",
        "The command goes onto the next node.",
        "Run it again.",
    ],
)
def test_plain_english_passes(refused, text):
    """What resembles a refused phrase is let pass."""
    assert refused(text) == []


def test_fault_has_its_place(refused):
    """Line, column and what to write instead."""
    assert refused("One line.\nThen it is\ntold.\n") == [
        "2:9: phrases: 'is told': write the actor: 'the record says', 'the command receives'."
    ]


def test_code_is_left_out_of_markdown(refused):
    """A program's output and its options are quoted as they are."""
    assert refused("Use `mend`:\n\n```\n$ mend\n```\n") == []


def test_strings_of_python_are_read(refused):
    """A message in quotes reaches users as prose does."""
    assert len(refused('print("Mend that.")\n', ".py")) == 1


def test_words_beside_code_are_no_repetition(prose):
    """proselint finds 'the the', and not 'the `x` the'."""
    checks = {"lexical_illusions": True}

    assert len(list(prose.lint("It reads the the file.", checks, ".md"))) == 1
    assert list(prose.lint("It reads the `x` the host wrote.", checks, ".md")) == []


def test_heading_and_paragraph_are_no_repetition(prose):
    """Each is read by itself, and the lines keep their numbers."""
    text = "## What it holds\n\nIt holds the the file.\n"

    assert [
        fault.split(":")[0] for fault in prose.lint(text, {"lexical_illusions": True}, ".md")
    ] == ["3"]


def test_rules_name_files_that_exist(prose):
    """A renamed file does not drop out of the lists unseen."""
    patterns = [*prose.RULES["prose"], *prose.RULES["phrases"]]

    assert [pattern for pattern in patterns if not list(ROOT.glob(pattern))] == []
